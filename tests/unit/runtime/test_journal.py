import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rayft.engine.ports import Events
from rayft.runtime.journal import FileJournal, FileReader, RemoteJournal, open_journal, read_journal
from rayft.storage.location import Location


def journal(folder: Path, attempt: int) -> FileJournal:
    return FileJournal(folder / "journal", attempt=attempt, stop_file=folder / "stop")


def test_a_reader_sees_each_event_of_its_attempt_once(tmp_path: Path) -> None:
    journal(tmp_path, 1).emit("old", {})
    reader = FileReader(tmp_path / "journal", attempt=2)

    journal(tmp_path, 2).emit("phase", {"index": 0})
    journal(tmp_path, 1).emit("late", {})
    first = list(reader.new_events())
    journal(tmp_path, 2).emit("progress", {"loss": 0.5})
    second = list(reader.new_events())

    assert [event["kind"] for event in first] == ["phase"]
    assert [event["loss"] for event in second] == [0.5]
    assert list(reader.new_events()) == []


def test_half_a_line_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    reader = FileReader(file, attempt=1)
    line = json.dumps({"kind": "epoch", "attempt": 1}) + "\n"

    file.write_text(line[:10])
    before = list(reader.new_events())
    file.write_text(line)
    after = list(reader.new_events())

    assert before == []
    assert [event["kind"] for event in after] == ["epoch"]


def test_a_line_torn_by_a_dead_writer_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    reader = FileReader(file, attempt=1)
    file.write_text('{"kind": "epo')

    journal(tmp_path, 1).emit("phase", {})
    journal(tmp_path, 1).emit("epoch", {})

    assert [event["kind"] for event in reader.new_events()] == ["epoch"]


def test_a_stop_is_seen_and_not_forgotten(tmp_path: Path) -> None:
    events = journal(tmp_path, 1)
    (tmp_path / "stop").touch()

    assert events.stop_requested()
    assert events.stop_requested()


def _until(reader_events: Iterator[list[str]], wanted: list[str]) -> list[str]:
    seen: list[str] = []
    deadline = time.monotonic() + 20
    while seen != wanted and time.monotonic() < deadline:
        seen += next(reader_events)
        time.sleep(0.05)
    return seen


def _kinds(run: Location, attempt: int) -> Iterator[list[str]]:
    reader = read_journal(run, attempt=attempt)
    while True:
        yield [str(event["kind"]) for event in reader.new_events(last=True)]


def _journal(run: Location, attempt: int) -> Events:
    (run / "attempt").write_bytes(str(attempt).encode())
    return open_journal(run, attempt=attempt, stop_file=run / f"stop-{attempt}")


def test_events_arrive_in_order_wherever_the_run_lies(place: Location) -> None:
    run = place / "run"
    kinds = _kinds(run, 2)
    next(kinds)
    events = _journal(run, 2)

    for kind in ("phase", "progress", "epoch"):
        events.emit(kind, {})

    assert _until(kinds, ["phase", "progress", "epoch"]) == ["phase", "progress", "epoch"]
    events.emit("finished", {})


def test_the_end_of_an_attempt_is_there_at_once(place: Location) -> None:
    run = place / "run"
    kinds = _kinds(run, 1)
    next(kinds)

    events = _journal(run, 1)
    events.emit("epoch", {})
    events.emit("finished", {})

    assert next(kinds) == ["epoch", "finished"]


def test_another_attempt_is_not_heard(place: Location) -> None:
    run = place / "run"
    kinds = _kinds(run, 2)
    next(kinds)

    _journal(run, 1).emit("finished", {})
    _journal(run, 2).emit("finished", {})

    assert next(kinds) == ["finished"]


def test_a_stop_in_an_object_store_is_seen_without_waiting_in_the_loop(bucket: Location) -> None:
    run = bucket / "stopped"
    events = _journal(run, 1)
    assert isinstance(events, RemoteJournal)
    assert not events.stop_requested()

    (run / "stop-1").write_bytes(b"15")

    deadline = time.monotonic() + 20
    while not events.stop_requested():
        assert time.monotonic() < deadline, "the stop was not seen"
        time.sleep(0.05)
    events.emit("stopped", {})


def test_nobody_looks_once_an_attempt_is_over(bucket: Location) -> None:
    events = _journal(bucket / "over", 1)
    events.emit("epoch", {})
    assert _watching()

    events.emit("finished", {})

    deadline = time.monotonic() + 20
    while _watching():
        assert time.monotonic() < deadline, "the thread goes on"
        time.sleep(0.05)


def _watching() -> bool:
    return any(thread.name == "rayft-journal" for thread in threading.enumerate())
