import json
from pathlib import Path

from rayft.runtime.journal import JournalEvents, JournalReader


def journal(folder: Path, attempt: int) -> JournalEvents:
    return JournalEvents(folder / "journal", attempt=attempt, stop_file=folder / "stop")


def test_a_reader_sees_each_event_of_its_attempt_once(tmp_path: Path) -> None:
    journal(tmp_path, 1).emit("old", {})
    reader = JournalReader(tmp_path / "journal", attempt=2)

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
    reader = JournalReader(file, attempt=1)
    line = json.dumps({"kind": "epoch", "attempt": 1}) + "\n"

    file.write_text(line[:10])
    before = list(reader.new_events())
    file.write_text(line)
    after = list(reader.new_events())

    assert before == []
    assert [event["kind"] for event in after] == ["epoch"]


def test_a_line_torn_by_a_dead_writer_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    reader = JournalReader(file, attempt=1)
    file.write_text('{"kind": "epo')

    journal(tmp_path, 1).emit("phase", {})
    journal(tmp_path, 1).emit("epoch", {})

    assert [event["kind"] for event in reader.new_events()] == ["epoch"]


def test_a_stop_is_seen_and_not_forgotten(tmp_path: Path) -> None:
    events = journal(tmp_path, 1)
    (tmp_path / "stop").touch()

    assert events.stop_requested()
    assert events.stop_requested()
