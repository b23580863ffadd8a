"""Files and folders of this machine, as `Location` needs them."""

import errno
import fcntl
import os
import shutil
import stat as kinds
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rayft.storage.commit import atomic_file, write_file_atomically
from rayft.storage.state import Changed, FileEntry, FileState

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def stat(path: Path) -> FileState | None:
    """Return size and version of a file; None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileState(found.st_size, _version(found)) if kinds.S_ISREG(found.st_mode) else None


@contextmanager
def opened(path: Path, *, version: str | None) -> Iterator[BinaryIO]:
    """Open a file for reading, where it is `version`."""
    with _open(path) as file:
        if version is not None and _version(os.fstat(file.fileno())) != version:
            raise Changed(errno.ESTALE, "it is no longer as it was", str(path))
        yield file


def read_versioned(path: Path) -> tuple[bytes, str]:
    """Return the content and its version, of one and the same file."""
    with _open(path) as file:
        # First the version: a file that grows while it is read then has another one afterwards.
        version = _version(os.fstat(file.fileno()))
        return file.read(), version


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except NotADirectoryError as error:
        # A file stands where a folder is asked for: there is nothing below it.
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from error


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file, complete or absent, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, content)


def create(path: Path, content: bytes | memoryview) -> bool:
    """Write a file where there is none, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        return False
    try:
        with atomic_file(path, name=_name_where_free) as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _name_where_free(tmp: Path, path: Path) -> None:
    try:
        path.hardlink_to(tmp)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with _locked(path.parent, os.O_RDONLY):
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, "it is there already", str(path)) from error
            tmp.rename(path)


def replace(path: Path, content: bytes | memoryview, *, version: str) -> bool:
    """Write a file where it still is `version`."""
    while True:
        try:
            with _locked(path, os.O_RDWR) as descriptor:
                found = os.fstat(descriptor)
                if not _is_at(path, found):
                    continue  # another was put in its place while we waited for the lock
                if _version(found) != version:
                    return False
                with atomic_file(path) as file:
                    file.write(content)
                    file.flush()
                    # Two writes may fall into one tick of the kernel's clock, and a third may get
                    # the inode of the first: without this it could pass for the first.
                    modified = max(time.time_ns(), found.st_mtime_ns + 1)
                    os.utime(file.fileno(), ns=(modified, modified))
                return True
        except FileNotFoundError:
            return False


def copy(source: Path, to: Path) -> None:
    """Copy a file; `to` is complete or absent."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, atomic_file(to) as written:
        shutil.copyfileobj(read, written, 2**20)


def delete(path: Path) -> None:
    """Delete a file; a missing one is fine."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return


def children(path: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    try:
        return sorted(os.listdir(path))  # noqa: PTH208  names are all that is asked for
    except (FileNotFoundError, NotADirectoryError):
        return []


def files(path: Path) -> list[FileEntry]:
    """Return every file below a folder, sorted by its path as text.

    Links to folders are not followed. A link to nothing is a file that cannot be read.
    """
    found: list[FileEntry] = []
    waiting = [(str(path), "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
                elif (state := _entry_state(entry)) is not None:
                    found.append(FileEntry(prefix + entry.name, state.size, state.version))
    found.sort(key=lambda entry: entry.path)
    return found


def _entry_state(entry: os.DirEntry[str]) -> FileState | None:
    try:
        found = entry.stat()
    except FileNotFoundError:
        if not entry.is_symlink():
            return None  # it was deleted after it was listed
        found = entry.stat(follow_symlinks=False)
        return FileState(found.st_size, _version(found))
    return FileState(found.st_size, _version(found)) if kinds.S_ISREG(found.st_mode) else None


def delete_tree(path: Path) -> None:
    """Delete a folder with all that is in it; a missing one is fine, also one that vanishes."""
    while path.is_dir():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _is_at(path: Path, found: os.stat_result) -> bool:
    there = path.stat()
    return (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)


def _version(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"
