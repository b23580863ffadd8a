"""A sweep as a state machine: which trials there are, what is worked on next, what stops.

It knows neither Ray nor a clock, and starts nothing. Whatever it has said is in its journal first,
so that a process that reads the journal goes on where another was killed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

from rayft.plan.stopping import Direction, Rule, to_stop
from rayft.plan.trials import ENDED, Ending, Point, Report, Unit
from rayft.runtime.search import Sampler
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
    encode,
)
from rayft.runtime.sweep_journal import SweepJournal
from rayft.runtime.sweep_ports import Planner
from rayft.runtime.sweep_record import SweepRecord, SweepState
from rayft.runtime.sweep_units import next_startable

MOST_STARTS = 3
"""Starts in a row without an epoch or a checkpoint between them, after which a unit has failed."""


@final
class Sweep:
    """A sweep, from its journal on."""

    def __init__(  # noqa: PLR0913  the parts that it is put together from
        self,
        *,
        metric: str,
        direction: Direction,
        rule: Rule,
        sampler: Sampler,
        planner: Planner,
        journal: SweepJournal,
        ask_at_once: int,
    ) -> None:
        """Go on from the journal; what another process worked on waits again.

        Args:
            metric: what trials are compared by.
            direction: whether less or more of it is better.
            rule: the scheduler.
            sampler: is told of every trial that is over, in the order of trials.
            planner: groups trials into units.
            journal: of this sweep; nobody else may write to it.
            ask_at_once: most trials that are asked for and not over at a time; for a sampler that
                does not learn, the number of all trials.
        """
        self._metric = metric
        self._direction = direction
        self._rule = rule
        self._sampler = sampler
        self._planner = planner
        self._journal = journal
        self._ask_at_once = ask_at_once
        self._record = SweepRecord()
        self._has_asked = False
        self._is_exhausted = False
        self._is_stopping = False
        self._units: Sequence[Unit] | None = None
        for event in journal.read():
            self._record.apply(decode(event))
        self._write(Opened())
        self._tell(sorted(self._record.endings))

    @property
    def is_over(self) -> bool:
        """Whether nothing is worked on and nothing is left to do; after `stop`, only the former."""
        if self._record.running:
            return False
        return self._is_stopping or (self._is_exhausted and not self._record.open_trials())

    @property
    def is_stopping(self) -> bool:
        """Whether units are to save, and to be left."""
        return self._is_stopping

    def point(self, trial: int) -> Point:
        """Return the values of a trial."""
        return self._record.points[trial]

    def state(self) -> SweepState:
        """Return how every trial stands."""
        return self._record.state()

    def stop(self) -> None:
        """Begin nothing more; the same sweep goes on from its journal."""
        self._is_stopping = True
        for name in list(self._record.running):
            # Nobody works on it yet, and who comes to it now finds that it is not handed out.
            if not self._record.starts.is_begun(name):
                self.leave(name)

    def next_unit(self) -> Unit | None:
        """Hand out the next unit; None where none can begin now, or none is left (`is_over`)."""
        if not self._is_stopping and not self._has_asked:
            # Trials that were added belong together with those that wait from before.
            self._ask()
        while not self._is_stopping:
            unit = next_startable(self._planned(), self._record)
            if unit is not None:
                self._hand(unit)
                return unit
            if not self._ask():
                return None
        return None

    def begin(self, unit: str, steps_done: Mapping[int, int]) -> frozenset[int]:
        """Take note that a process begins to work on a unit, or does so again after one died.

        Args:
            unit: its name.
            steps_done: for each member the steps in the checkpoint that it goes on from.

        Returns:
            The members that go no further here: those that were to stop at that step or before,
            and those that have failed because this unit was begun too often and got nowhere.
        """
        if unit not in self._record.running:
            return frozenset(steps_done)
        self._write(Begun(unit=unit, steps_done=dict(steps_done)))
        self._fail_stuck(unit, MOST_STARTS, "its process died each time")
        members = self._record.open_members(unit) if unit in self._record.running else ()
        return frozenset(
            trial
            for trial, steps in steps_done.items()
            if trial not in members or self._record.goes_no_further_from(trial, steps)
        )

    def report(self, unit: str, reports: Sequence[Report]) -> frozenset[int]:
        """Take what members have reached at the end of an epoch, and decide which go on.

        An epoch that is reported again, after a resume, changes nothing and gets the same answer.

        Args:
            unit: name of the unit that they are worked on in.
            reports: those of all members that have ended the epoch together.

        Returns:
            The trials that go no further.
        """
        if unit not in self._record.running:
            # The process was given up, and does not know it.
            return frozenset(report.trial for report in reports)
        members = self._record.open_members(unit)
        new = tuple(one for one in reports if one.trial in members and not self._record.knows(one))
        if new:
            reached = (*self._record.skipped(unit, new), *new)
            self._write(Reported(unit=unit, reports=reached, stop=self._decide(new)))
        return frozenset(
            one.trial
            for one in reports
            if one.trial not in members or self._record.goes_no_further(one)
        )

    def end(self, unit: str, endings: Sequence[Ending]) -> None:
        """Take what became of members.

        A unit is over with its last member. A stage is over at once: what is not stopped of it
        goes on from its end, or, where one of the endings is a failure, alone from the start.
        Members of a fused unit that fail together go on alone from where they are.
        """
        if any(ending.status not in ENDED for ending in endings):
            raise ValueError(f"{unit} ended with a status that is no end")
        handed = self._record.running.get(unit)
        if handed is None:
            return
        members = self._record.open_members(unit)
        new = tuple(ending for ending in endings if ending.trial in members)
        if new or handed.work == "stage":
            self._write(Ended(unit=unit, endings=new))
            self._tell(sorted(one.trial for one in new if one.trial in self._record.endings))

    def excuse(self, unit: str) -> None:
        """Take note that the process of a unit died by no fault of its own: its node went.

        The unit stays handed out, and its last start does not count.
        """
        handed = self._record.running.get(unit)
        if handed is not None:
            self._write(Left(unit=unit))
            self._write(replace(handed, adopted=()))

    def leave(self, unit: str) -> None:
        """Take back a unit that was saved and left because the sweep is to stop."""
        if unit in self._record.running:
            self._write(Left(unit=unit))

    def lose(self, unit: str, reason: str) -> None:
        """Take back a unit whose process died and is not started again; it may be handed out anew.

        Args:
            unit: its name.
            reason: what it died of; not empty.
        """
        if unit not in self._record.running:
            return
        unbegun = 0 if self._record.starts.is_begun(unit) else 1
        self._fail_stuck(unit, MOST_STARTS - 1 - unbegun, reason)
        if unit in self._record.running:
            self._write(Left(unit=unit, reason=reason))

    def _planned(self) -> Sequence[Unit]:
        if self._units is None:
            states = self._record.state().trials
            valid = [one.point for one in states.values() if one.status != "invalid"]
            self._units = self._planner.units(valid, states)
        return self._units

    def _hand(self, unit: Unit) -> None:
        source = unit.begins_from
        self._write(
            Handed(
                unit=unit.name,
                trials=unit.trials,
                work=unit.kind,
                stops_before=unit.stops_before,
                adopted=tuple(
                    report
                    for trial in (unit.trials if source else ())
                    for report in self._record.missing_of(source, trial)
                ),
            )
        )

    def _ask(self) -> bool:
        """Ask for points where there is room for more; return whether there are new ones."""
        self._has_asked = True
        room = self._ask_at_once - len(self._record.open_trials())
        if self._is_exhausted or room < 1:
            return False
        points = self._sampler.ask(room, tuple(self._record.points.values()))
        self._is_exhausted = len(points) < room
        if points:
            _check_new(points, self._record)
            found = {point.trial: self._planner.problem(point) for point in points}
            problems = {trial: problem for trial, problem in found.items() if problem}
            self._write(Asked(points=points, problems=problems))
            self._tell(sorted(problems))
        return bool(points)

    def _decide(self, new: Sequence[Report]) -> tuple[int, ...]:
        before = self._record.reports_in(report.phase for report in new)
        stop = to_stop(self._rule, before, new=new, metric=self._metric, direction=self._direction)
        return tuple(sorted(trial for trial in stop if not self._record.is_stopping(trial)))

    def _fail_stuck(self, unit: str, most_starts: int, reason: str) -> None:
        """Have the members fail that were begun more often in a row than they may be."""
        handed = self._record.running[unit]
        what = f"it was begun {MOST_STARTS} times and did not get any further: {reason}"
        stuck = [
            Ending(trial=trial, status="failed", reason=what, together=handed.work == "fused")
            for trial in self._record.open_members(unit)
            if self._record.starts.of(handed, trial) > most_starts
        ]
        if stuck:
            self.end(unit, stuck)

    def _tell(self, trials: Sequence[int]) -> None:
        for trial in trials:
            ending = self._record.endings[trial]
            value = ending.metrics.get(self._metric, math.nan)
            has_value = ending.status in ("finished", "stopped") and math.isfinite(value)
            self._sampler.tell(self._record.points[trial], value if has_value else None)

    def _write(self, event: SweepEvent) -> None:
        written = encode(event)
        self._journal.append(written)
        # As it will be read again, so that who reads the journal knows the same to the last tuple.
        self._record.apply(decode(written))
        if isinstance(event, Asked | Ended | Left):
            self._units = None


def _check_new(points: Sequence[Point], record: SweepRecord) -> None:
    numbers = [point.trial for point in points]
    if len(set(numbers)) < len(numbers) or not record.points.keys().isdisjoint(numbers):
        raise ValueError(f"the sampler gave a number of a trial twice: {numbers}")
