"""How often units of a sweep were begun without getting anywhere.

What kills its process each time it is begun must come to an end some day. Counted are starts with
neither the end of an epoch nor a newer checkpoint between them; a process that was stopped in good
order, or died with the whole sweep or with its node, counts for nothing.
"""

from collections import Counter
from typing import final

from rayft.runtime.sweep_events import Begun, Handed, Left, Reported


@final
class Starts:
    """Counts starts, for each trial and for each stage."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._steps_done: Counter[str] = Counter()
        self._begun: set[str] = set()

    def begin(self, unit: Handed, event: Begun) -> None:
        """Count a start."""
        self._begun.add(unit.unit)
        for key in {_key(unit, trial) for trial in unit.trials}:
            steps_done = max(
                event.steps_done.get(trial, 0) for trial in unit.trials if _key(unit, trial) == key
            )
            if steps_done > self._steps_done[key]:
                self._steps_done[key] = steps_done
                self._counts[key] = 0
            self._counts[key] += 1

    def report(self, unit: Handed, event: Reported) -> None:
        """Begin to count anew for what got somewhere."""
        for report in event.reports:
            self._counts[_key(unit, report.trial)] = 0

    def leave(self, unit: Handed, event: Left) -> None:
        """Take back the last start, or count one that did not come as far as beginning."""
        change = bool(event.reason) - (unit.unit in self._begun)
        for key in {_key(unit, trial) for trial in unit.trials}:
            self._counts[key] = max(0, self._counts[key] + change)

    def forget(self, name: str) -> None:
        """Take note that a unit is no longer handed out."""
        self._begun.discard(name)

    def is_begun(self, name: str) -> bool:
        """Return whether a process has begun to work on a unit since it was handed out."""
        return name in self._begun

    def of(self, unit: Handed, trial: int) -> int:
        """Return how often a member was begun in a row in such units."""
        return self._counts[_key(unit, trial)]


def _key(unit: Handed, trial: int) -> str:
    """Return what starts are counted by: what dies together says nothing of each alone."""
    return unit.unit if unit.work == "stage" else f"{unit.work} {trial}"
