"""How a trial speaks with its sweep: it reports every epoch, and hears whether to go on."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from rayft.engine.ports import Events, Json
from rayft.plan.trials import Report
from rayft.storage.location import Location
from rayft.storage.state import StorageFault

_LOOK_EVERY_S, _REMOTE_EVERY_S = 0.5, 5.0

Tell = Callable[[Sequence[Report]], frozenset[int]]
"""Takes reports; returns the trials that are to stop."""


class SweepStop:
    """Knows whether all of a sweep was asked to save and stop.

    It looks at most twice a second, and every five seconds where that asks an object store.

    Args:
        file: whose presence asks for it.
    """

    def __init__(self, file: Location) -> None:
        self._file = file
        self._every_s = _LOOK_EVERY_S if file.is_local else _REMOTE_EVERY_S
        self._looked_at = 0.0
        self._asked = False

    def __call__(self) -> bool:
        """Return whether the sweep is to stop."""
        now = time.monotonic()
        if not self._asked and now - self._looked_at >= self._every_s:
            self._looked_at = now
            with suppress(StorageFault):
                # What does not answer now is asked again.
                self._asked = self._file.exists()
        return self._asked


class Stoppable:
    """A run's journal that also hears when all of the sweep is to stop.

    Args:
        inner: the journal.
        sweep_stop: whether all of the sweep is to stop.
    """

    def __init__(self, inner: Events, sweep_stop: Callable[[], bool]) -> None:
        self._inner = inner
        self._sweep_stop = sweep_stop

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Take one event."""
        self._inner.emit(kind, values)

    def stop_requested(self) -> bool:
        """Return whether the run is to save and stop."""
        return self._sweep_stop() or self._inner.stop_requested()


class TrialEvents:
    """Hands a run's events on to its journal, and its epochs to the sweep as well.

    Args:
        inner: the run's journal, which hears of the sweep's stop.
        trials: those that the run stands for: one, or all that share its phases.
        tell: reports to the sweep.
    """

    def __init__(self, inner: Stoppable, *, trials: Sequence[int], tell: Tell) -> None:
        self._inner = inner
        self._trials = trials
        self._tell = tell
        self.stopped: frozenset[int] = frozenset()
        """Trials that the sweep's rule has stopped."""

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Take one event."""
        self._inner.emit(kind, values)
        if kind == "epoch":
            self.stopped |= self._tell([epoch_report(trial, values) for trial in self._trials])

    @property
    def is_stopped(self) -> bool:
        """Whether every trial that the run stands for is stopped."""
        return self.stopped >= set(self._trials)

    def stop_requested(self) -> bool:
        """Return whether the run is to save and stop."""
        return self.is_stopped or self._inner.stop_requested()


def epoch_report(trial: int, values: Mapping[str, Json]) -> Report:
    """Return what a trial reports when a run's journal is told of the end of an epoch."""
    metrics = values["metrics"]
    assert isinstance(metrics, Mapping)
    return Report(
        trial=trial,
        phase=int(str(values["phase_index"])),
        epoch=int(str(values["epoch"])),
        steps_done=int(str(values["steps_done"])),
        metrics={name: float(str(value)) for name, value in metrics.items()},
    )
