"""Who chooses the points of a sweep: a grid, chance, or Optuna.

A sampler holds nothing that is not in the journal of the sweep: what it asks for next follows from
the sweep, the points there are and the values they were told. So a sweep that was killed goes on
with the points that it would have had.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, assert_never

from rayft.plan.sampling import (
    OWN,
    Values,
    grid_points,
    key_of,
    own_values,
    random_values,
)
from rayft.plan.trials import Point
from rayft.spec.run import RunSpec
from rayft.spec.sweep import GridSearch, RandomSearch, SweepSpec, TpeSearch

if TYPE_CHECKING:
    from rayft.runtime.tpe import Tried

_MOST_REPEATS = 16
"""Suggestions that repeat a known point before one at random is taken instead."""


class Sampler(Protocol):
    """Chooses points; the same for the same points known and values told."""

    def ask(self, number: int, known: Sequence[Point]) -> tuple[Point, ...]:
        """Return new points.

        Args:
            number: most points to return.
            known: every point there is, in the order of their trials; none is returned again.

        Returns:
            Points whose trials follow on those known; the first of all is the run's own. Fewer,
            or none, where the search has no more.
        """
        ...

    def tell(self, point: Point, value: float | None) -> None:
        """Take note of what a point has reached.

        Args:
            point: one that `ask` returned, now or in an earlier life.
            value: its metric; None where the trial is invalid or has failed.
        """
        ...


def make_sampler(
    sweep: SweepSpec, run: RunSpec, *, direction: Literal["min", "max"]
) -> "ListSampler | TpeSampler":
    """Return the sampler that a sweep asks for.

    Args:
        sweep: its search and its space.
        run: the run that trials begin from; its own values are the first point.
        direction: whether less or more of the metric is better.

    Raises:
        SpecError: the search does not suit the space.
    """
    search = sweep.search
    match search:
        case GridSearch():
            grid = [point.values for point in grid_points(sweep, run)[1:]]
            return ListSampler(sweep, run, lambda _: grid)
        case RandomSearch():
            return _at_random(sweep, run, search.num_trials)
        case TpeSearch():
            return TpeSampler(sweep, run, search, direction)
        case _:
            assert_never(search)


class ListSampler:
    """Takes points from a list that is known beforehand, or from one without end.

    Args:
        sweep: its space.
        run: the run that trials begin from.
        candidates: the points that follow from the number of the next trial; known ones are
            passed over.
        most: points in all, the run's own among them; None for as many as there are.
    """

    def __init__(
        self,
        sweep: SweepSpec,
        run: RunSpec,
        candidates: Callable[[int], Iterable[Values]],
        *,
        most: int | None = None,
    ) -> None:
        self._own = own_values(sweep, run)
        self._candidates = candidates
        self._most = most

    def ask(self, number: int, known: Sequence[Point]) -> tuple[Point, ...]:
        """Return the next points of the list that are not known."""
        wanted = number if self._most is None else min(number, self._most - len(known))
        if wanted <= 0:
            return ()
        points = [] if known else [OWN]
        first, taken = max(1, _next_trial(known)), self.keys(known)
        for values in self._candidates(first):
            if len(points) >= wanted:
                break
            if (key := key_of(values)) not in taken:
                taken.add(key)
                points.append(Point(trial=first + len(points) - (not known), values=values))
        return tuple(points)

    def tell(self, point: Point, value: float | None) -> None:
        """Do nothing: the list does not depend on what was reached."""

    def keys(self, known: Iterable[Point]) -> set[str]:
        """Return the keys of points, the run's own among them."""
        own = set() if self._own is None else {key_of(self._own)}
        return own | {key_of(point.values) for point in known if point.values}


def _at_random(sweep: SweepSpec, run: RunSpec, num_trials: int) -> ListSampler:
    return ListSampler(sweep, run, lambda first: random_values(sweep, first=first), most=num_trials)


class TpeSampler:
    """Drives Optuna's TPE: every point is asked of a new study, built from what is known.

    Points that are not told yet count as bad ones, so that trials at the same time do not gather in
    one place (constant liar), and so do those that failed.
    """

    def __init__(
        self, sweep: SweepSpec, run: RunSpec, search: TpeSearch, direction: Literal["min", "max"]
    ) -> None:
        self._search = search
        self._space = sweep.space
        self._own = own_values(sweep, run)
        self._maximizes = direction == "max"
        self._told: dict[int, float | None] = {}
        self._chance = _at_random(sweep, run, search.num_trials)

    def ask(self, number: int, known: Sequence[Point]) -> tuple[Point, ...]:
        """Return points at random until enough have ended, then such as TPE suggests."""
        points: list[Point] = []
        while len(points) < number:
            there_are = [*known, *points]
            next_ones = self._chance.ask(1, there_are)
            if not next_ones:
                break
            if len(self._told) >= self._search.startup and there_are:
                next_ones = (self._suggested(there_are) or next_ones[0],)
            points += next_ones
        return tuple(points)

    def tell(self, point: Point, value: float | None) -> None:
        """Take note of what a point has reached."""
        finite = value is not None and math.isfinite(value)
        self._told[point.trial] = value if finite else None

    def _suggested(self, known: Sequence[Point]) -> Point | None:
        """Return a point that is not known; None where TPE comes back to known ones only."""
        # Optuna takes a second to import, and most sweeps do without it.
        from rayft.runtime.tpe import suggestions

        trial, taken = _next_trial(known), self._chance.keys(known)
        first = self._search.seed * 1_000_003 + trial * _MOST_REPEATS
        found = suggestions(
            self._space,
            [tried for point in known for tried in self._tried(point)],
            maximizes=self._maximizes,
            seeds=[seed % 2**32 for seed in range(first, first + _MOST_REPEATS)],
        )
        new = (Point(trial=trial, values=values) for values in found if key_of(values) not in taken)
        return next(new, None)

    def _tried(self, point: Point) -> Iterator["Tried"]:
        from rayft.runtime.tpe import Tried

        values = point.values or self._own
        if values is not None:
            ended = point.trial in self._told
            yield Tried(values=values, ended=ended, value=self._told.get(point.trial))


def _next_trial(known: Sequence[Point]) -> int:
    return max((point.trial for point in known), default=-1) + 1
