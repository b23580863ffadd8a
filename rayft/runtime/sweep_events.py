"""What can happen in a sweep, and how it stands in the journal."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from rayft.errors import CheckpointError, Problem
from rayft.plan.trials import Ending, Point, Report
from rayft.runtime.journal import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A process begins to work on the sweep; what another worked on lies still from now on."""

    kind: Literal["opened"] = "opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The sampler gave points."""

    points: tuple[Point, ...]
    problems: Mapping[int, str] = field(default_factory=dict)
    """By trial why the spec refuses it; such a trial is over at once."""
    kind: Literal["asked"] = "asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A unit is to be worked on."""

    unit: str
    trials: tuple[int, ...]
    work: Literal["lone", "fused", "stage"]
    stops_before: int = 0
    """Of a stage: the first phase that is no longer shared."""
    adopted: tuple[Report, ...] = ()
    """What a stage reported before these trials were asked for; it holds for them too."""
    kind: Literal["handed"] = "handed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A process begins to work on a unit, for the first time or after another has died."""

    unit: str
    steps_done: Mapping[int, int]
    """By trial the steps in the checkpoint that it goes on from."""
    kind: Literal["begun"] = "begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """Trials have come to the end of an epoch."""

    unit: str
    reports: tuple[Report, ...]
    stop: tuple[int, ...]
    """Those that go no further."""
    kind: Literal["reported"] = "reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Members of a unit are over, or a stage is."""

    unit: str
    endings: tuple[Ending, ...]
    kind: Literal["ended"] = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Nobody works on a unit any more; what is not over of it waits again."""

    unit: str
    reason: str = ""
    """What its process died of; empty where it was left in good order."""
    kind: Literal["left"] = "left"


SweepEvent = Opened | Asked | Handed | Begun | Reported | Ended | Left


def encode(event: SweepEvent) -> Event:
    """Return an event as it stands in the journal, with lists for tuples and texts for keys."""
    found: Event = json.loads(json.dumps(asdict(event)))
    return found


def decode(event: Event) -> SweepEvent:
    """Return what an event in the journal says.

    Raises:
        CheckpointError: no event of that kind is known.
    """
    known = {kind.__name__.lower(): kind for kind in get_args(SweepEvent)}
    made = known.get(str(event["kind"]))
    if made is None:
        what = f"it holds an event {event['kind']!r}, which this version does not know"
        fix = "go on with the version of rayft that wrote it"
        raise CheckpointError(Problem("journal of the sweep", what, fix))
    values = {
        name: _READ[name](value) if name in _READ else value
        for name, value in event.items()
        if name not in ("kind", "time")
    }
    decoded: SweepEvent = made(**values)
    return decoded


def _by_trial(found: Any) -> dict[int, Any]:  # noqa: ANN401  read from JSON
    return {int(trial): value for trial, value in found.items()}


def _all(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    return lambda found: tuple(kind(**values) for values in found)


_READ: Mapping[str, Callable[[Any], Any]] = {
    "points": _all(Point),
    "reports": _all(Report),
    "adopted": _all(Report),
    "endings": _all(Ending),
    "problems": _by_trial,
    "steps_done": _by_trial,
    "trials": tuple,
    "stop": tuple,
}
"""By the name of a field what makes it of what JSON has."""
