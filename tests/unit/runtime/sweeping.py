"""A small sweep to test with: points that are numbers, and a plan that is written down."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from rayft.engine.ports import Json
from rayft.plan.stopping import Rule
from rayft.plan.trials import Ending, Point, Report, Status, Unit
from rayft.runtime.journal import Event
from rayft.runtime.sweep import Sweep
from rayft.runtime.sweep_record import TrialState
from rayft.spec.sweep import AshaScheduler, FifoScheduler

ACCURACY = "validation/accuracy"


Fifo = FifoScheduler
Asha = partial(AshaScheduler, kind="asha")


@dataclass
class Kept:
    """A journal in memory, as text, that outlives those who write to it."""

    lines: list[str] = field(default_factory=list)
    refuses: bool = False

    def read(self) -> list[Event]:
        return [json.loads(line) for line in self.lines]

    def append(self, event: Mapping[str, Json]) -> None:
        if self.refuses:
            raise OSError(28, "no space left on device")
        self.lines.append(json.dumps({**event, "time": 0.0}))

    def kinds(self) -> list[Json]:
        return [event["kind"] for event in self.read()]


@dataclass
class Listed:
    """A sampler with so many points."""

    number: int
    told: list[tuple[int, float | None]] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def ask(self, number: int, known: Sequence[Point]) -> tuple[Point, ...]:
        trials = range(len(known), min(self.number, len(known) + number))
        self.asked += trials
        return tuple(
            Point(trial=trial, values={"lr": trial / 10} if trial else {}) for trial in trials
        )

    def tell(self, point: Point, value: float | None) -> None:
        self.told.append((point.trial, value))


@dataclass
class Written:
    """A plan: units as they stand here, and points that are none."""

    plan: Sequence[Unit] | None = None
    problems: Mapping[int, str] = field(default_factory=dict)
    seen: list[dict[int, Status]] = field(default_factory=list)

    def problem(self, point: Point) -> str | None:
        return self.problems.get(point.trial)

    def units(self, points: Sequence[Point], states: Mapping[int, TrialState]) -> Sequence[Unit]:
        self.seen.append({trial: state.status for trial, state in states.items()})
        if self.plan is None:
            return [lone(point.trial) for point in points]
        here = {point.trial for point in points}
        kept = [(unit, [trial for trial in unit.trials if trial in here]) for unit in self.plan]
        return [
            Unit(
                name=unit.name,
                trials=tuple(trials),
                kind=unit.kind,
                begins_from=unit.begins_from,
                stops_before=unit.stops_before,
            )
            for unit, trials in kept
            if trials
        ]


def lone(trial: int, *, begins_from: str = "") -> Unit:
    return Unit(name=f"trial-{trial:04d}", trials=(trial,), kind="lone", begins_from=begins_from)


def fused(*trials: int, begins_from: str = "") -> Unit:
    name = f"fused-{trials[0]:04d}"
    return Unit(name=name, trials=trials, kind="fused", begins_from=begins_from)


def stage(key: str, *trials: int, begins_from: str = "", stops_before: int = 1) -> Unit:
    return Unit(
        name=f"stage-{key}",
        trials=trials,
        kind="stage",
        begins_from=begins_from,
        stops_before=stops_before,
    )


def make_sweep(
    journal: Kept,
    *,
    sampler: Listed | int = 3,
    planner: Written | None = None,
    rule: Rule | None = None,
    ask_at_once: int = 100,
) -> Sweep:
    return Sweep(
        metric=ACCURACY,
        direction="max",
        rule=rule or Fifo(),
        sampler=Listed(sampler) if isinstance(sampler, int) else sampler,
        planner=planner or Written(),
        journal=journal,
        ask_at_once=ask_at_once,
    )


def at(epoch: int, values: Mapping[int, float], *, phase: int = 0) -> list[Report]:
    """Reports of an epoch, of 10 steps each and 100 a phase."""
    return [
        Report(
            trial=trial,
            phase=phase,
            epoch=epoch,
            steps_done=100 * phase + 10 * epoch,
            metrics={ACCURACY: value},
        )
        for trial, value in values.items()
    ]


def over(trial: int, status: Status = "finished", value: float = 0.5) -> Ending:
    has_value = status in ("finished", "stopped")
    return Ending(trial=trial, status=status, metrics={ACCURACY: value} if has_value else {})


def begin_next(sweep: Sweep, steps_done: int = 0) -> Unit:
    unit = sweep.next_unit()
    assert unit is not None
    sweep.begin(unit.name, dict.fromkeys(unit.trials, steps_done))
    return unit


def names(sweep: Sweep) -> list[str]:
    """Hand out everything that can be begun now."""
    found: list[str] = []
    while (unit := sweep.next_unit()) is not None:
        found.append(unit.name)
    return found


def statuses(sweep: Sweep) -> list[Status]:
    return [state.status for state in sweep.state().trials.values()]
