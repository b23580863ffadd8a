import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rayft.engine.ports import Json
from rayft.errors import TrainingError
from rayft.runtime.sweep_journal import FileSweepJournal, SweepJournal, open_sweep_journal
from rayft.storage.location import Location
from rayft.storage.state import StorageFault


def numbers(journal: SweepJournal) -> list[Json]:
    return [event["number"] for event in journal.read()]


def test_events_are_read_in_the_order_they_were_kept_in(place: Location) -> None:
    journal = open_sweep_journal(place / "sweep")

    for number in range(12):
        journal.append({"kind": "x", "number": number})

    assert numbers(journal) == list(range(12))
    assert numbers(open_sweep_journal(place / "sweep")) == list(range(12))


def test_the_next_process_goes_on_where_the_last_one_ended(place: Location) -> None:
    for number in range(3):
        open_sweep_journal(place / "sweep").append({"number": number})

    assert numbers(open_sweep_journal(place / "sweep")) == [0, 1, 2]


def test_a_sweep_that_is_not_begun_has_no_events_and_no_file(place: Location) -> None:
    assert open_sweep_journal(place / "sweep").read() == []
    assert place.children() == []


@pytest.mark.parametrize("torn", ['{"number": 7', '{"number": 7}', "\x00" * 70_000])
def test_what_a_dead_writer_has_not_finished_never_comes_to_life(tmp_path: Path, torn: str) -> None:
    journal = FileSweepJournal(tmp_path / "sweep.jsonl")
    journal.append({"number": 0})
    with (tmp_path / "sweep.jsonl").open("a") as file:
        file.write(torn)

    before = numbers(journal)
    journal.append({"number": 1})

    assert before == [0]
    assert numbers(journal) == [0, 1]


def test_a_file_that_holds_nothing_but_half_a_line_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "sweep.jsonl").write_text('{"number"')
    journal = FileSweepJournal(tmp_path / "sweep.jsonl")

    journal.append({"number": 0})

    assert numbers(journal) == [0]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    journal = FileSweepJournal(tmp_path / "sweep.jsonl")
    journal.append({"number": 0})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
        with pytest.raises(OSError, match="too large"):
            journal.append({"number": 1, "text": "long" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert (tmp_path / "sweep.jsonl").read_bytes().endswith(b"\n")
    journal.append({"number": 2})
    assert numbers(journal) == [0, 2]


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    script = f"""
        from pathlib import Path
        from rayft.runtime.sweep_journal import FileSweepJournal
        journal = FileSweepJournal(Path({str(tmp_path / "sweep.jsonl")!r}))
        for number in range(100_000):
            journal.append({{"number": number, "text": "x" * 500}})
            print(number, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 30:
                break
        process.kill()
        acknowledged = [30, *map(int, process.stdout)]

    found = numbers(FileSweepJournal(tmp_path / "sweep.jsonl"))
    assert found[: acknowledged[-1] + 1] == list(range(acknowledged[-1] + 1))
    assert len(found) <= acknowledged[-1] + 2


def test_an_event_is_on_the_disk_before_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, int]] = []

    def fsync(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append((place.name, place.stat().st_size if place.is_file() else 0))

    monkeypatch.setattr(os, "fsync", fsync)
    journal = FileSweepJournal(tmp_path / "sweep.jsonl")

    journal.append({"number": 0})
    journal.append({"number": 1})

    sizes = [size for name, size in flushed if name == "sweep.jsonl"]
    assert [name for name, _ in flushed] == ["sweep.jsonl", tmp_path.name, "sweep.jsonl"]
    assert sizes[1] == (tmp_path / "sweep.jsonl").stat().st_size > sizes[0]


def test_a_number_that_is_none_comes_back(place: Location) -> None:
    journal = open_sweep_journal(place / "sweep")

    journal.append({"number": float("nan")})

    assert str(journal.read()[0]["number"]) == "nan"


def test_a_second_writer_in_an_object_store_is_found_out(bucket: Location) -> None:
    first = open_sweep_journal(bucket / "twice")
    second = open_sweep_journal(bucket / "twice")
    first.append({"number": 0})
    second.append({"number": 1})

    with pytest.raises(TrainingError, match="another process"):
        first.append({"number": 2})

    assert numbers(second) == [0, 1]


def test_after_a_fault_nothing_more_is_kept_by_this_process(
    bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_sweep_journal(bucket / "faulty")
    journal.append({"number": 0})

    def refuse(place: Location, content: bytes) -> bool:
        # The answer is lost and the piece is there.
        place.write_bytes(content)
        raise StorageFault(5, "no answer")

    with monkeypatch.context() as patched:
        patched.setattr(Location, "create", refuse)
        with pytest.raises(StorageFault):
            journal.append({"number": 1})

    with pytest.raises(StorageFault):
        journal.append({"number": 2})
    assert numbers(open_sweep_journal(bucket / "faulty")) == [0, 1]
