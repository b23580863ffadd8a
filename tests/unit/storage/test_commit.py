import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rayft.storage.commit import commit_directory, exclusive, sha256_of, write_file_atomically


def _filled(folder: Path, text: str) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file.txt").write_text(text)
    return folder


def test_a_committed_directory_is_whole_and_its_source_gone(tmp_path: Path) -> None:
    tmp, final = _filled(tmp_path / "tmp", "one"), tmp_path / "final"

    made = commit_directory(tmp, final)

    assert made
    assert (final / "inner" / "file.txt").read_text() == "one"
    assert not tmp.exists()


def test_the_first_commit_stands_and_a_late_twin_is_thrown_away(tmp_path: Path) -> None:
    final = tmp_path / "final"
    commit_directory(_filled(tmp_path / "first", "one"), final)

    made = commit_directory(_filled(tmp_path / "second", "two"), final)

    assert not made
    assert (final / "inner" / "file.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_commit_flushes_every_file_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        flushed.append((name, (tmp_path / "final").exists()))

    monkeypatch.setattr(os, "fsync", fsync)

    commit_directory(_filled(tmp_path / "tmp", "one"), tmp_path / "final")

    before = {name for name, visible in flushed if not visible}
    assert before == {"file.txt", "inner", "tmp"}
    assert flushed[-1] == (tmp_path.name, True)


def test_a_commit_into_nowhere_raises_and_keeps_the_work(tmp_path: Path) -> None:
    tmp = _filled(tmp_path / "tmp", "one")

    with pytest.raises(OSError, match="No such file"):
        commit_directory(tmp, tmp_path / "missing" / "final")

    assert tmp.is_dir()


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    write_file_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file_atomically(path, b"new")

    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")

    assert sha256_of(tmp_path / "file").startswith("ba7816bf8f01cfea")


def test_a_lock_keeps_others_out_and_lets_them_in_afterwards(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "one.lock"

    with exclusive(lock, wait=True), pytest.raises(BlockingIOError), exclusive(lock, wait=False):
        pass

    with exclusive(lock, wait=False):
        pass


def test_a_killed_holder_frees_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / "one.lock"
    code = f"""
        import time
        from pathlib import Path
        from rayft.storage.commit import exclusive
        with exclusive(Path({str(lock)!r}), wait=True):
            print("held", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), exclusive(lock, wait=False):
            pass
        holder.send_signal(signal.SIGKILL)

    with exclusive(lock, wait=False):
        pass
