"""A sweep as a table: for each trial its values, how far it came and what it reached."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from rayft.plan.sampling import values_in
from rayft.plan.trials import Ending, Json, Point, Report, Status
from rayft.spec.run import RunSpec

_STATUSES: tuple[Status, ...] = (
    "finished",
    "stopped",
    "running",
    "waiting",
    "failed",
    "invalid",
)
"""In the order in which they are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The sweep's metric at the end of an epoch."""

    phase: int
    """Index of the plain phase."""
    epoch: int
    """Epoch of the phase, counted from 1."""
    done: int
    """Epochs that were done by then, over all phases."""
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One trial."""

    point: Point
    values: Mapping[str, Json]
    """Of every setting, the spec's own where the point has none. A setting that the spec leaves
    out is left out."""
    status: Status
    value: float | None
    """The sweep's metric at the best checkpoint; of a trial that is not over, the best so far."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Those of the best checkpoint, or of the last epoch where there is none yet."""
    curve: Sequence[CurvePoint] = ()
    """In the order of training, over all phases; epochs without the metric are left out."""
    phase: int | None = None
    """Index of the plain phase it has come to; None before the end of the first epoch."""
    epoch: int | None = None
    """Epoch of that phase, counted from 1."""
    epochs: int = 0
    """Epochs that are done, over all phases."""
    checkpoint: str = ""
    reason: str = ""
    seconds: float = 0.0

    @property
    def trial(self) -> int:
        """Number of the trial."""
        return self.point.trial


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepHead:
    """What all trials have in common."""

    name: str
    metric: str
    direction: Literal["min", "max"]
    settings: tuple[str, ...]
    """Paths of the space, in the order of the sweep's file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTable:
    """The trials of a sweep, the best first."""

    head: SweepHead
    rows: tuple[TrialRow, ...]
    """Finished trials first, by value: they alone ran to the end. Then those that were stopped,
    failed late or are still running, by value; then the rest, by number."""

    @property
    def best(self) -> TrialRow | None:
        """The best finished trial; None while there is none.

        A stopped trial is never the best one: its spec, run to the end, would give another model
        than the checkpoint it left.
        """
        found = [row for row in self.rows if row.status == "finished" and row.value is not None]
        return found[0] if found else None

    def counts(self) -> dict[Status, int]:
        """Return the number of trials of each status that occurs."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in _STATUSES if status in found}

    def ranked(self) -> tuple[tuple[int | None, TrialRow], ...]:
        """Return every trial with its rank, from 1; without a value it has none."""
        places = enumerate(self.rows, start=1)
        return tuple((None if row.value is None else rank, row) for rank, row in places)

    def standing(self) -> dict[int, float]:
        """Return for every trial with a value its rank as a share: 1 for the best, 0 the last."""
        trials = [row.trial for row in self.rows if row.value is not None]
        last = max(1, len(trials) - 1)
        return {trial: 1 - place / last for place, trial in enumerate(trials)}


class KnownTrial(Protocol):
    """What is known of a trial, as the state of a sweep has it."""

    @property
    def point(self) -> Point:
        """Its number and values."""
        ...

    @property
    def status(self) -> Status:
        """How it stands."""
        ...

    @property
    def reports(self) -> Sequence[Report]:
        """One for each epoch, in their order."""
        ...

    @property
    def ending(self) -> Ending | None:
        """What became of it; None while it is not over."""
        ...


def make_table(head: SweepHead, run: RunSpec, trials: Iterable[KnownTrial]) -> SweepTable:
    """Put together what is known of a sweep.

    Args:
        head: name, metric and settings of the sweep.
        run: the run that is varied; its values are those of trial 0.
        trials: every trial there is, in any order.
    """
    own = values_in(run, head.settings)
    rows = [_row(head, trial, {**own, **trial.point.values}) for trial in trials]
    return SweepTable(head=head, rows=tuple(sorted(rows, key=lambda row: _order(row, head))))


def _row(head: SweepHead, trial: KnownTrial, values: Mapping[str, Json]) -> TrialRow:
    curve = [
        CurvePoint(
            phase=report.phase, epoch=report.epoch, done=done, value=report.metrics[head.metric]
        )
        for done, report in enumerate(trial.reports, start=1)
        if math.isfinite(report.metrics.get(head.metric, math.nan))
    ]
    last = trial.reports[-1] if trial.reports else None
    ending = trial.ending
    metrics = ending.metrics if ending and ending.metrics else last.metrics if last else {}
    return TrialRow(
        point=trial.point,
        values=values,
        status=trial.status,
        value=_value(head, ending, curve),
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        curve=tuple(curve),
        phase=last.phase if last else None,
        epoch=last.epoch if last else None,
        epochs=len(trial.reports),
        checkpoint=ending.checkpoint if ending else "",
        reason=ending.reason if ending else "",
        seconds=ending.seconds if ending else 0.0,
    )


def _value(head: SweepHead, ending: Ending | None, curve: Sequence[CurvePoint]) -> float | None:
    told = ending.metrics.get(head.metric, math.nan) if ending else math.nan
    if math.isfinite(told):
        return told
    if ending and ending.status == "invalid":
        return None
    best = max if head.direction == "max" else min
    return best((point.value for point in curve), default=None)


def _order(row: TrialRow, head: SweepHead) -> tuple[int, float, int]:
    if row.value is None:
        return 2, 0.0, row.trial
    sign = -1 if head.direction == "max" else 1
    return int(row.status != "finished"), sign * row.value, row.trial
