"""Files and folders of this machine, as `Location` needs them."""

import os
import shutil
from pathlib import Path
from uuid import uuid4

from rayft.storage.commit import exclusive, write_file_atomically
from rayft.storage.state import Changed, FileEntry, FileState


def stat(path: Path) -> FileState | None:
    """Return size and version of a file; None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileState(found.st_size, _version(found)) if path.is_file() else None


def read(path: Path, *, version: str | None) -> bytes:
    """Return the content, where the file is `version`."""
    content, found = read_versioned(path)
    if version is not None and found != version:
        raise Changed(f"{path} is no longer as it was")
    return content


def read_versioned(path: Path) -> tuple[bytes, str]:
    """Return the content and its version, of one and the same file."""
    with path.open("rb") as file:
        return file.read(), _version(os.fstat(file.fileno()))


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file, complete or absent, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, content)


def create(path: Path, content: bytes | memoryview) -> bool:
    """Write a file where there is none, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{uuid4().hex}")
    write_file_atomically(tmp, content)
    try:
        path.hardlink_to(tmp)
    except FileExistsError:
        return False
    finally:
        tmp.unlink()
    return True


def replace(path: Path, content: bytes | memoryview, *, version: str) -> bool:
    """Write a file where it still is `version`."""
    with exclusive(path.with_name(f".{path.name}.lock"), wait=True):
        state = stat(path)
        if state is None or state.version != version:
            return False
        write_file_atomically(path, content)
    return True


def copy(source: Path, to: Path) -> None:
    """Copy a file; `to` is complete or absent."""
    to.parent.mkdir(parents=True, exist_ok=True)
    tmp = to.with_name(f".{to.name}.{uuid4().hex}")
    try:
        shutil.copyfile(source, tmp)
        tmp.replace(to)
    finally:
        tmp.unlink(missing_ok=True)


def children(path: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    try:
        return sorted(os.listdir(path))  # noqa: PTH208  names are all that is asked for
    except (FileNotFoundError, NotADirectoryError):
        return []


def files(path: Path) -> list[FileEntry]:
    """Return every file below a folder, sorted by its path as text."""
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            state = stat(file)
            if state is not None:
                relative = file.relative_to(path).as_posix()
                found.append(FileEntry(relative, state.size, state.version))
    return sorted(found, key=lambda entry: entry.path)


def delete_tree(path: Path) -> None:
    """Delete a folder with all that is in it."""
    shutil.rmtree(path, ignore_errors=True)


def _version(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"
