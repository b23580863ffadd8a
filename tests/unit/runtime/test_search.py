"""Samplers: what they ask for follows from the sweep, the points known and the values told."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayft.plan.sampling import key_of
from rayft.plan.trials import Point
from rayft.runtime.search import Sampler, make_sampler
from rayft.runtime.tpe import Tried, suggestions
from rayft.spec.load import spec_from_data
from rayft.spec.space import Uniform
from rayft.spec.sweep import SweepSpec
from tests.unit.plan.test_sampling import RUN, sweep

SPACE = {"phases.0.lr": "loguniform(1e-5, 1)", "optimizer.weight_decay": "choice([0, 0.01, 0.1])"}
FINITE = {"seed": "int(0, 3)", "gradient_clip": "choice([1.0, 2.0])"}


def sampler_of(spec: SweepSpec, direction: Any = "max") -> Sampler:
    return make_sampler(spec, spec_from_data(RUN), direction=direction)


def worth(point: Point) -> float:
    """Be best at a rate of 1e-2 without weight decay."""
    rate = point.values.get("phases.0.lr", 1e-2)
    decay = point.values.get("optimizer.weight_decay", 0.0)
    assert isinstance(rate, float | int)
    assert isinstance(decay, float | int)
    return 1 - abs(math.log10(rate) + 2) / 5 - decay


def searched(
    spec: SweepSpec,
    value: Callable[[Point], float | None] = worth,
    *,
    at_once: int = 1,
    direction: Any = "max",
) -> list[Point]:
    """Search to the end, `at_once` points at a time."""
    sampler, known = sampler_of(spec, direction), list[Point]()
    while points := sampler.ask(at_once, known):
        known += points
        for point in points:
            sampler.tell(point, value(point))
    return known


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (sweep({"seed": "choice([0, 1, 2])", "gradient_clip": "choice([1, 2])"}, "grid"), 6),
        (sweep({"seed": "choice([5, 6])", "gradient_clip": "choice([1, 2])"}, "grid"), 5),
        (sweep(SPACE, num_trials=20), 20),
        (sweep(SPACE, num_trials=1), 1),
        (sweep(FINITE, num_trials=8), 8),
        (sweep(FINITE, num_trials=50), 8),
        (sweep(FINITE, num_trials=6), 6),
        (sweep(SPACE, "tpe", num_trials=20), 20),
        (sweep(FINITE, "tpe", num_trials=50), 8),
        (sweep(FINITE, "tpe", num_trials=50, startup=3), 8),
    ],
)
@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_a_search_ends_with_each_point_once_and_the_runs_own_first(
    spec: SweepSpec, count: int, at_once: int
) -> None:
    points = searched(spec, at_once=at_once)

    assert [point.trial for point in points] == list(range(count))
    assert points[0].values == {}
    own = {"seed": 0, "gradient_clip": 1.0}
    filled = [key_of(point.values or own) for point in points]
    assert len(set(filled)) == count


def test_nothing_is_asked_for_where_nothing_is_wanted() -> None:
    assert sampler_of(sweep(SPACE)).ask(0, []) == ()


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_more_trials_go_on_with_the_points_that_there_are(kind: str) -> None:
    few = searched(sweep(SPACE, kind, num_trials=12))
    sampler = sampler_of(sweep(SPACE, kind, num_trials=20))
    for point in few:
        sampler.tell(point, worth(point))

    more = sampler.ask(100, few)

    assert [point.trial for point in more] == list(range(12, 20))
    assert not {key_of(p.values) for p in more} & {key_of(p.values) for p in few}


def test_a_grid_that_has_grown_begins_no_point_again() -> None:
    known = searched(sweep({"seed": "choice([5, 6])"}, "grid"))

    more = sampler_of(sweep({"seed": "choice([4, 5, 6, 7])"}, "grid")).ask(10, known)

    assert [(point.trial, point.values) for point in more] == [(3, {"seed": 4}), (4, {"seed": 7})]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 100),
    killed_at=st.integers(0, 24),
    order=st.randoms(use_true_random=False),
    told=st.lists(st.booleans(), min_size=24, max_size=24),
)
@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_a_sampler_that_is_built_again_asks_for_the_same(
    kind: str, seed: int, killed_at: int, order: Any, told: list[bool]
) -> None:
    search = {"startup": 4} if kind == "tpe" else {}
    spec = sweep(SPACE, kind, num_trials=30, seed=seed, **search)
    first, known = sampler_of(spec), list[Point]()
    for number in range(killed_at):
        known += first.ask(1, known)
        if told[number]:
            first.tell(known[-1], worth(known[-1]))
    again, ended = sampler_of(spec), [point for point, had in zip(known, told, strict=False) if had]
    order.shuffle(ended)
    for point in ended:
        again.tell(point, worth(point))

    assert again.ask(2, known) == first.ask(2, known)
    one = again.ask(1, known)
    assert (*one, *again.ask(1, [*known, *one])) == again.ask(2, known)


def test_tpe_gathers_where_the_values_are_good() -> None:
    late = [
        worth(point)
        for seed in range(3)
        for point in searched(sweep(SPACE, "tpe", num_trials=60, seed=seed))[40:]
    ]

    # One point in eight of the space is so good.
    assert sum(value > 0.9 for value in late) > 0.3 * len(late)


def test_tpe_follows_the_direction() -> None:
    spec = sweep({"phases.0.lr": "uniform(0.001, 1)"}, "tpe", num_trials=40)

    def rate(point: Point) -> float:
        found = point.values.get("phases.0.lr", 0.01)
        assert isinstance(found, float)
        return found

    def mean_of_the_last(direction: str) -> float:
        points = searched(spec, rate, direction=direction)[30:]
        return sum(map(rate, points)) / len(points)

    assert mean_of_the_last("min") < 0.25
    assert mean_of_the_last("max") > 0.75


@pytest.mark.parametrize("came_of_it", ["failed", "runs"])
def test_tpe_keeps_away_from_what_failed_or_still_runs(came_of_it: str) -> None:
    space = {"phases.0.lr": Uniform(uniform=(0.0, 1.0))}

    def tried(rate: float, value: float | None, *, ended: bool = True) -> Tried:
        return Tried(values={"phases.0.lr": rate}, value=value, ended=ended)

    good = [tried(0.5, 0.5), tried(0.0, 0.1), tried(1.0, 0.1)]
    bad = [tried(0.6 + n / 100, None, ended=came_of_it == "failed") for n in range(-5, 20)]

    def share_above(known: list[Tried]) -> float:
        found = suggestions(space, known, maximizes=True, seeds=range(200))
        return sum(values["phases.0.lr"] > 0.5 for values in found) / 200  # type: ignore[operator]

    assert share_above(good + bad) < share_above(good) - 0.2


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_tpe_takes_what_is_no_number_for_a_failure(value: float | None) -> None:
    spec = sweep(SPACE, "tpe", num_trials=30, startup=3)
    sampler, other = sampler_of(spec), sampler_of(spec)
    known = sampler.ask(6, [])
    for point in known:
        sampler.tell(point, value if point.trial % 2 else 0.5)
        other.tell(point, None if point.trial % 2 else 0.5)

    assert sampler.ask(3, known) == other.ask(3, known)


def test_points_that_are_asked_for_together_differ() -> None:
    spec = sweep({"phases.0.lr": "choice([0.1, 0.2, 0.3, 0.4])"}, "tpe", num_trials=5, startup=1)
    sampler = sampler_of(spec)
    known = sampler.ask(2, [])
    for point in known:
        sampler.tell(point, 0.5)

    rates = {point.values["phases.0.lr"] for point in (*known, *sampler.ask(3, known))[1:]}

    assert rates == {0.1, 0.2, 0.3, 0.4}


def test_points_outside_of_the_space_are_left_alone() -> None:
    spec = sweep({"phases.0.lr": "uniform(0.5, 1)"}, "tpe", num_trials=20, startup=2)
    sampler = sampler_of(spec)
    # The run's own 0.01 lies outside, and so does a point of an earlier space.
    known = [Point(trial=0, values={}), Point(trial=1, values={"phases.0.lr": 0.1})]
    known += [Point(trial=2, values={"seed": 3}), Point(trial=3, values={"phases.0.lr": 0.7})]
    for point in known:
        sampler.tell(point, 0.5)

    (point,) = sampler.ask(1, known)

    assert point.trial == 4
    assert 0.5 <= point.values["phases.0.lr"] <= 1  # type: ignore[operator]
