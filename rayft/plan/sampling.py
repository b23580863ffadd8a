"""Points of a sweep's space: a grid, points at random, and the run that a point makes.

A point follows from the sweep and its number alone, so that a sweep that goes on after a stop, on
another machine too, draws the same ones.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random

from rayft.errors import Problem, SpecError
from rayft.plan.trials import Json, Point
from rayft.spec.load import spec_from_values
from rayft.spec.read import Tree
from rayft.spec.run import RunSpec
from rayft.spec.space import (
    AnyDomain,
    Choice,
    LogUniform,
    Uniform,
    WholeNumber,
    canonical,
    holds,
    size_of,
    values_of,
)
from rayft.spec.sweep import GridSearch, SweepSpec

Values = Mapping[str, Json]
"""By path in the run."""

OWN = Point(trial=0, values={})
"""The run's own values: the first trial of every sweep."""


def grid_points(sweep: SweepSpec, run: RunSpec) -> tuple[Point, ...]:
    """Return every point of a grid, the run's own values first.

    The last setting of the space changes fastest. The combination that the run has anyway is left
    out.

    Raises:
        SpecError: a setting of the space is no `choice`.
    """
    for path, domain in sweep.space.items():
        if not isinstance(domain, Choice):
            what = "a grid needs a list of values, and this is none"
            raise SpecError(Problem(f"space.{path}", what, "write choice([...])"))
    total, own = num_points(sweep), own_values(sweep, run)
    assert total is not None
    every = [_at(sweep, index) for index in range(total)]
    others = [values for values in every if own is None or key_of(values) != key_of(own)]
    return (OWN, *(Point(trial=n + 1, values=values) for n, values in enumerate(others)))


def random_point(sweep: SweepSpec, trial: int) -> Point:
    """Return the point of a trial, from the seed of the search and the trial's number alone.

    Where the space is finite no two trials have the same point, and `trial` is at most
    `num_points(sweep)`; the point that the run has anyway is among them.

    Raises:
        IndexError: the space has no further point.
    """
    if not trial:
        return OWN
    endless = num_points(sweep) is None
    drawn = random_values(sweep, first=trial)
    values = next(drawn if endless else itertools.islice(drawn, trial - 1, None), None)
    if values is None:
        raise IndexError(f"the space has only {num_points(sweep)} points")
    return Point(trial=trial, values=values)


def random_values(sweep: SweepSpec, *, first: int = 1) -> Iterator[Values]:
    """Yield points at random: without end, or each point of a finite space once.

    Args:
        sweep: its space, and the seed of its search.
        first: trial to begin with, in a space without end; any other is drawn from its start.
    """
    total, seed = num_points(sweep), _seed(sweep)
    if total is None:
        for trial in itertools.count(first):
            # One stream for each setting: a setting added to the space leaves the others alone.
            yield {
                path: _drawn(domain, _stream(seed, trial, path))
                for path, domain in sweep.space.items()
            }
    else:
        for index in _shuffled(total, _stream(seed)):
            yield _at(sweep, index)


def trial_spec(run: RunSpec, point: Point, *, name: str, storage_path: str) -> RunSpec:
    """Return the run of a trial: the values of a point over those of the run, checked again.

    Args:
        run: the run that trials begin from.
        point: values by path; where one path lies in another, the outer one is set first.
        name: name of the trial.
        storage_path: the folder that holds the trial's.

    Raises:
        SpecError: the spec refuses a value; a problem's `where` is the path in the run.
    """
    values: dict[tuple[str, ...], Tree] = {("name",): name, ("storage_path",): storage_path}
    for path in sorted(point.values, key=lambda path: path.count(".")):
        values[tuple(path.split("."))] = json.loads(json.dumps(point.values[path]))
    return spec_from_values(run, values)


def num_points(sweep: SweepSpec) -> int | None:
    """Return how many points the space has; None where there is no end of them."""
    sizes = [size_of(domain) for domain in sweep.space.values()]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def own_values(sweep: SweepSpec, run: RunSpec) -> Values | None:
    """Return the run's own values as a point of the space; None where they lie outside it."""
    found: dict[str, Json] = {}
    for path, domain in sweep.space.items():
        if isinstance(domain, Choice):
            place = _own_place(run, path, domain)
            if place is None:
                return None
            found[path] = domain.choice[place]
        else:
            found[path] = values_in(run, [path]).get(path)
            if not holds(domain, found[path]):
                return None
    return found


def key_of(values: Values) -> str:
    """Return a text that is equal for points with equal values."""
    return canonical(dict(values))


def _seed(sweep: SweepSpec) -> int:
    return 0 if isinstance(sweep.search, GridSearch) else sweep.search.seed


def _stream(*parts: int | str) -> Random:
    """Return a stream of draws that belongs to `parts`; text seeds are the same everywhere."""
    return Random(" ".join(map(str, parts)))  # noqa: S311  no secrets


def _at(sweep: SweepSpec, index: int) -> Values:
    """Return the values of one point of a finite space; the last setting changes fastest."""
    found: dict[str, Json] = {}
    for path, domain in reversed(sweep.space.items()):
        values, size = values_of(domain), size_of(domain)
        assert values is not None
        assert size is not None
        index, place = divmod(index, size)
        found[path] = values[place]
    return {path: found[path] for path in sweep.space}


def _drawn(domain: AnyDomain, random: Random) -> Json:
    match domain:
        case Choice():
            return random.choice(domain.choice)
        case WholeNumber(ends=(low, high)):
            return random.randint(low, high)
        case Uniform(uniform=(low, high)):
            return random.uniform(low, high)
        case LogUniform(loguniform=(low, high)):
            drawn = math.exp(random.uniform(math.log(low), math.log(high)))
            return min(max(drawn, low), high)


def _shuffled(count: int, random: Random) -> Iterator[int]:
    """Yield 0 to `count` - 1 in a random order, holding only those that were moved.

    Source: Fisher & Yates, in Durstenfeld's form, with a table in place of the array.
    """
    moved: dict[int, int] = {}
    for place in range(count):
        other = random.randrange(place, count)
        yield moved.get(other, other)
        moved[other] = moved.pop(place, place)


def _own_place(run: RunSpec, path: str, domain: Choice) -> int | None:
    """Return the place of the value that leaves the run as it is."""
    for place, value in enumerate(domain.choice):
        point = Point(trial=0, values={path: value})
        try:
            same = trial_spec(run, point, name=run.name, storage_path=run.storage_path) == run
        except SpecError:
            continue
        if same:
            return place
    return None


def values_in(run: RunSpec, paths: Iterable[str]) -> dict[str, Json]:
    """Return what a run itself has at some paths; a path that leads nowhere is left out."""
    tree: Json = run.model_dump(mode="json", by_alias=True)
    found = {path: _value_at(tree, path.split(".")) for path in paths}
    return {path: values[0] for path, values in found.items() if values}


def _value_at(tree: Json, keys: Sequence[str]) -> tuple[Json, ...]:
    """Return the one value at a path, or none."""
    for key in keys:
        if isinstance(tree, dict) and key in tree:
            tree = tree[key]
        elif isinstance(tree, list) and key.isdecimal() and int(key) < len(tree):
            tree = tree[int(key)]
        else:
            return ()
    return (tree,)
