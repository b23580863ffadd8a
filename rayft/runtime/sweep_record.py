"""What is known of a sweep: the sum of its journal.

It changes by events alone, so that a process that reads the journal knows what the one that wrote
it knew. Nothing is decided here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import assert_never, final

from rayft.plan.trials import Ending, Point, Report, Status
from rayft.runtime.journal import Event
from rayft.runtime.sweep_events import (
    Asked,
    Begun,
    Ended,
    Handed,
    Left,
    Opened,
    Reported,
    SweepEvent,
    decode,
)
from rayft.runtime.sweep_starts import Starts


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialState:
    """A trial as it stands."""

    point: Point
    status: Status
    is_begun: bool
    """Whether it has begun outside of a stage, and so has a folder of its own."""
    reports: tuple[Report, ...]
    """One for each epoch, in their order."""
    ending: Ending | None
    """None while it is not over."""

    @property
    def last(self) -> Report | None:
        """The newest report."""
        return self.reports[-1] if self.reports else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepState:
    """A sweep as it stands."""

    trials: Mapping[int, TrialState]
    """In the order of their numbers."""
    running: Mapping[str, tuple[int, ...]]
    """By name the units that are worked on, with their trials."""


def read_state(events: Iterable[Event]) -> SweepState:
    """Return how a sweep stands, or stood when the process that worked on it died."""
    record = SweepRecord()
    for event in events:
        record.apply(decode(event))
    return record.state()


@final
class SweepRecord:
    """The sum of the events so far."""

    def __init__(self) -> None:
        self.points: dict[int, Point] = {}
        self.endings: dict[int, Ending] = {}
        self.running: dict[str, Handed] = {}
        self.stages: set[str] = set()
        """Stages that have come to their end, and can be begun from."""
        self.failed_stages: set[str] = set()
        self.apart: set[int] = set()
        """Trials that failed together with others, and are to run alone."""
        self.begun: set[int] = set()
        """Trials that have begun outside of a stage."""
        self.starts = Starts()
        self._reports: dict[int, dict[tuple[int, int], Report]] = {}
        self._stopped_at: dict[int, Report] = {}
        self._handed_stages: dict[str, list[Handed]] = {}

    def apply(self, event: SweepEvent) -> None:
        """Add what has happened."""
        match event:
            case Opened():
                self._open()
            case Asked():
                self._ask(event)
            case Handed():
                self._hand(event)
            case Begun():
                self._begin(event)
            case Reported():
                self._report(event)
            case Ended():
                self._end(event)
            case Left():
                self._leave(event)
            case _:
                assert_never(event)

    def open_trials(self) -> list[int]:
        """Return the trials that are not over, in their order."""
        return [trial for trial in sorted(self.points) if trial not in self.endings]

    def open_members(self, unit: str) -> tuple[int, ...]:
        """Return the trials of a running unit that are not over, and still run in it."""
        handed = self.running[unit]
        gone = self.endings.keys() | (self.apart if handed.work == "fused" else set())
        return tuple(trial for trial in handed.trials if trial not in gone)

    def reports_of(self, trial: int) -> tuple[Report, ...]:
        """Return what a trial has reported, in the order of phases and epochs."""
        found = self._reports.get(trial, {})
        return tuple(found[key] for key in sorted(found))

    def reports_in(self, phases: Iterable[int]) -> Iterator[Report]:
        """Yield what all trials have reported in these phases."""
        wanted = frozenset(phases)
        for reports in self._reports.values():
            yield from (report for report in reports.values() if report.phase in wanted)

    def knows(self, report: Report) -> bool:
        """Return whether the trial has reported this epoch, or is over."""
        key = (report.phase, report.epoch)
        return report.trial in self.endings or key in self._reports.get(report.trial, {})

    def goes_no_further(self, report: Report) -> bool:
        """Return whether a trial is over, or was to stop where it is now or before."""
        stop = self._stopped_at.get(report.trial)
        place = (report.phase, report.epoch)
        return report.trial in self.endings or (
            stop is not None and (stop.phase, stop.epoch) <= place
        )

    def goes_no_further_from(self, trial: int, steps_done: int) -> bool:
        """Return whether a trial is over, or was to stop at this step or before."""
        stop = self._stopped_at.get(trial)
        return trial in self.endings or (stop is not None and stop.steps_done <= steps_done)

    def is_stopping(self, trial: int) -> bool:
        """Return whether it was decided that a trial stops, now or later."""
        return trial in self._stopped_at

    def missing_of(self, stage: str, trial: int) -> tuple[Report, ...]:
        """Return what a stage has reported for its members so far and not for this trial."""
        handed = self._handed_stages[stage]
        curves = [
            [one for one in self.reports_of(member) if one.phase < unit.stops_before]
            for unit in handed
            for member in unit.trials
        ]
        found = (replace(report, trial=trial) for report in max(curves, key=len))
        return tuple(report for report in found if not self.knows(report))

    def skipped(self, unit: str, new: Iterable[Report]) -> tuple[Report, ...]:
        """Return what a stage reported before for others, and does not do again for these."""
        if self.running[unit].work != "stage":
            return ()
        return tuple(
            earlier
            for report in new
            for earlier in self.missing_of(unit, report.trial)
            if (earlier.phase, earlier.epoch) < (report.phase, report.epoch)
        )

    def state(self) -> SweepState:
        """Return how the sweep stands."""
        working = {trial for unit in self.running for trial in self.open_members(unit)}
        trials = {trial: self._state_of(trial, working) for trial in sorted(self.points)}
        running = {name: unit.trials for name, unit in self.running.items()}
        return SweepState(trials=trials, running=running)

    def _state_of(self, trial: int, working: set[int]) -> TrialState:
        ending = self.endings.get(trial)
        return TrialState(
            point=self.points[trial],
            status=ending.status if ending else "running" if trial in working else "waiting",
            is_begun=trial in self.begun,
            reports=self.reports_of(trial),
            ending=ending,
        )

    def _ask(self, event: Asked) -> None:
        self.points |= {point.trial: point for point in event.points}
        for trial, reason in event.problems.items():
            self.endings[trial] = Ending(trial=trial, status="invalid", reason=reason)

    def _begin(self, event: Begun) -> None:
        unit = self.running[event.unit]
        self.starts.begin(unit, event)
        if unit.work != "stage":
            self.begun |= set(unit.trials)

    def _report(self, event: Reported) -> None:
        self._add(event.reports)
        self.starts.report(self.running[event.unit], event)
        # The last one of a trial is the one that was decided on.
        self._stopped_at |= {one.trial: one for one in event.reports if one.trial in event.stop}

    def _add(self, reports: Iterable[Report]) -> None:
        for report in reports:
            here = self._reports.setdefault(report.trial, {})
            here[report.phase, report.epoch] = report

    def _hand(self, event: Handed) -> None:
        self.running[event.unit] = event
        self._add(event.adopted)
        if event.work == "stage":
            self._handed_stages.setdefault(event.unit, []).append(event)

    def _end(self, event: Ended) -> None:
        unit = self.running[event.unit]
        is_failed_stage = False
        for ending in event.endings:
            if ending.together:
                self.apart.add(ending.trial)
            elif unit.work == "stage" and ending.status == "failed":
                is_failed_stage = True
            else:
                self.endings[ending.trial] = ending
        goes_on = bool(self.open_members(event.unit))
        if is_failed_stage:
            self.failed_stages.add(event.unit)
        elif unit.work == "stage" and goes_on:
            # Where all of its members were stopped it has not come to its end.
            self.stages.add(event.unit)
        if unit.work == "stage" or not goes_on:
            self._forget(event.unit)

    def _open(self) -> None:
        # That the whole sweep was killed is not held against what was worked on.
        for name in list(self.running):
            self._leave(Left(unit=name))

    def _leave(self, event: Left) -> None:
        self.starts.leave(self.running[event.unit], event)
        self._forget(event.unit)

    def _forget(self, name: str) -> None:
        del self.running[name]
        self.starts.forget(name)
