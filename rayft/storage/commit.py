"""Writing to disk so that what is seen is complete: whole files, whole directories, locks.

Nothing here knows what is written. A directory is built beside its final place and renamed
into it, so a reader finds all of it or none of it, whenever the writer dies.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


def commit_directory(tmp: Path, final: Path) -> bool:
    """Make the finished directory `tmp` visible as `final`, in one step that survives a crash.

    Everything is flushed to disk before the rename, because a file system may otherwise keep
    the new name and lose the bytes.

    Args:
        tmp: a finished directory on the same file system as `final`; it is gone afterwards.
        final: the place to commit to; its parent exists.

    Returns:
        True where this call made `final`; False where it was there already (an equal twin was
        faster) and `tmp` was thrown away.

    Raises:
        OSError: the disk refused; `final` is then absent and `tmp` is left for inspection.
    """
    for folder, _, names in os.walk(tmp):
        for name in names:
            flush(Path(folder, name))
        flush(Path(folder))
    try:
        tmp.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(tmp)
        return False
    flush(final.parent)
    return True


@contextmanager
def atomic_file(
    path: Path, *, name: Callable[[Path, Path], object] = Path.replace
) -> Iterator[BinaryIO]:
    """Open a file to write that is complete or absent; an older one stays until it is whole.

    Args:
        path: the file; its folder exists.
        name: gives a finished temporary file its name; an older file is replaced by default.

    Raises:
        OSError: the disk refused; `path` is then as it was before.
    """
    tmp = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with tmp.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        name(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)
    flush(path.parent)


def write_file_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file that is complete or absent; an older file stays until the new one is whole.

    Raises:
        OSError: the disk refused; `path` is then as it was before.
    """
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock named by the file `path` for the length of a `with` block.

    The kernel lets go of the lock when the process dies, however it dies; so a lock is never
    stale. The file itself stays: deleting it would let two holders in.

    Args:
        path: the lock file, made where missing, together with its folder.
        wait: wait for another holder to finish, instead of raising.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            # A forked child shares the lock and may outlive the block: closing is not enough.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal, reading it in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
