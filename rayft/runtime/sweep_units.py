"""Which unit of a sweep can be worked on next.

The planner says how trials belong together, from their points alone. What of that is left, what
waits for a stage, and what must do without one because it failed, is worked out here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import final

from rayft.plan.trials import Unit
from rayft.runtime.sweep_record import SweepRecord


def trial_name(trial: int) -> str:
    """Return the name of a trial, of its folder, and of the unit that is it alone."""
    return f"trial-{trial:04d}"


def lone_unit(trial: int) -> Unit:
    """Return the unit of a trial that begins from the start."""
    return Unit(name=trial_name(trial), trials=(trial,), kind="lone")


def next_startable(units: Sequence[Unit], record: SweepRecord) -> Unit | None:
    """Return the first unit that can be worked on now, with what is left of its members."""
    return next(_Choice(units, record).startable(), None)


@final
class _Choice:
    def __init__(self, units: Sequence[Unit], record: SweepRecord) -> None:
        self._record = record
        self._units = [each for unit in units for each in self._parted(unit)]
        working = {trial for unit in record.running for trial in record.open_members(unit)}
        self._open = [trial for trial in record.open_trials() if trial not in working]
        self._stages = {unit.name: unit for unit in units if unit.kind == "stage"}

    def _parted(self, unit: Unit) -> Iterator[Unit]:
        """Yield a unit without the members that failed in it, and those by themselves."""
        apart = self._record.apart if unit.kind == "fused" else set()
        if members := tuple(trial for trial in unit.trials if trial not in apart):
            yield _narrowed(unit, members)
        for trial in unit.trials:
            if trial in apart:
                yield replace(lone_unit(trial), begins_from=unit.begins_from)

    def startable(self) -> Iterator[Unit]:
        for unit in self._units:
            members = self._left_of(unit)
            if members and unit.name not in self._record.running:
                yield from self._as_it_is(unit, members)
        held = {trial for unit in self._units if unit.kind != "stage" for trial in unit.trials}
        yield from (lone_unit(trial) for trial in self._open if trial not in held)

    def _left_of(self, unit: Unit) -> tuple[int, ...]:
        """Return the members that still are to be worked on in this unit."""
        members = tuple(trial for trial in unit.trials if trial in self._open)
        if unit.kind != "stage":
            return members
        if unit.name in self._record.stages or unit.name in self._record.failed_stages:
            return ()
        # A trial that has begun by itself is past what it could share.
        return tuple(trial for trial in members if trial not in self._record.begun)

    def _as_it_is(self, unit: Unit, members: tuple[int, ...]) -> Iterator[Unit]:
        source = unit.begins_from
        if not source or source in self._record.stages:
            yield _narrowed(unit, members)
        elif all(trial in self._record.begun for trial in members):
            yield replace(_narrowed(unit, members), begins_from="")
        elif unit.kind != "stage" and not self._is_awaited(source):
            yield from (lone_unit(trial) for trial in members)

    def _is_awaited(self, stage: str) -> bool:
        """Return whether a stage runs, or will."""
        if stage in self._record.running:
            return True
        unit = self._stages.get(stage)
        if unit is None or not self._left_of(unit):
            return False
        source = unit.begins_from
        return not source or source in self._record.stages or self._is_awaited(source)


def _narrowed(unit: Unit, members: tuple[int, ...]) -> Unit:
    if members == unit.trials:
        return unit
    name = f"fused-{members[0]:04d}" if unit.kind == "fused" else unit.name
    return replace(unit, name=name, trials=members)
