"""A trial hears of its sweep through its port for events."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rayft.plan.trials import Report
from rayft.runtime import trial_events
from rayft.runtime.trial_events import Stoppable, SweepStop, TrialEvents
from rayft.storage.location import Location
from rayft.storage.state import StorageFault

EPOCH = {"phase_index": 1, "epoch": 2, "steps_done": 30, "metrics": {"validation/loss": 0.5}}


class Journal:
    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.asked = False

    def emit(self, kind: str, values: Mapping[str, Any]) -> None:
        self.kinds.append(kind)

    def stop_requested(self) -> bool:
        return self.asked


class Board:
    def __init__(self, *stops: int) -> None:
        self.stops = frozenset(stops)
        self.told: list[Report] = []

    def __call__(self, reports: Sequence[Report]) -> frozenset[int]:
        self.told += reports
        return self.stops


def events_of(board: Board, journal: Journal, *trials: int) -> TrialEvents:
    return TrialEvents(Stoppable(journal, lambda: False), trials=trials, tell=board)


def test_the_end_of_an_epoch_is_reported_for_every_trial_that_the_run_stands_for() -> None:
    board, journal = Board(), Journal()
    events = events_of(board, journal, 3, 5)

    events.emit("progress", {})
    events.emit("epoch", EPOCH)

    assert journal.kinds == ["progress", "epoch"]
    assert [(one.trial, one.phase, one.epoch, one.steps_done) for one in board.told] == [
        (3, 1, 2, 30),
        (5, 1, 2, 30),
    ]
    assert not events.stop_requested()


@pytest.mark.parametrize(("stops", "is_stopped"), [((3,), False), ((3, 5), True)])
def test_a_run_stops_once_every_trial_that_it_stands_for_is_stopped(
    stops: tuple[int, ...], is_stopped: bool
) -> None:
    events = events_of(Board(*stops), Journal(), 3, 5)

    events.emit("epoch", EPOCH)

    assert events.stopped == set(stops)
    assert events.stop_requested() == is_stopped


def test_a_run_stops_when_its_own_journal_or_the_sweep_asks_for_it(tmp_path: Path) -> None:
    file, journal = Location(str(tmp_path / "stop")), Journal()
    stop = SweepStop(file)
    heard = Stoppable(journal, stop)
    assert not heard.stop_requested()

    journal.asked = True
    assert heard.stop_requested()

    journal.asked = False
    file.write_bytes(b"")
    assert Stoppable(journal, SweepStop(file)).stop_requested()


def test_a_store_that_does_not_answer_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_events, "_LOOK_EVERY_S", 0.0)
    file = Location(str(tmp_path / "stop"))

    def refuse(self: Location) -> bool:
        raise StorageFault(5, "no answer", str(self))

    with monkeypatch.context() as broken:
        broken.setattr(Location, "exists", refuse)
        stop = SweepStop(file)
        assert not stop()

    file.write_bytes(b"")
    assert stop()
