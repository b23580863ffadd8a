"""Where the image bytes of a source lie, and how a shard's worth of them is read.

A reader is a small picklable description; it is cut by row range and sent to wherever the
shard is made. Reading a row never raises for that row's own fault: it gives `Unreadable`.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from rayft.data.parquet_rows import ParquetPart, ParquetRows
from rayft.data.raw import MAX_FILE_BYTES, Raw, printable, too_many_bytes
from rayft.data.remote import read_ahead, refusing
from rayft.data.tar_rows import TarPart, TarRows
from rayft.storage.location import FileState, Location
from rayft.transforms.decode import Unreadable

__all__ = [
    "FileRows",
    "ParquetPart",
    "ParquetRows",
    "Raw",
    "Reader",
    "TarPart",
    "TarRows",
    "ValueRows",
    "open_regular",
    "printable",
]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FileRows:
    """One image file for each row."""

    root: Location
    """The folder that `paths` are relative to."""
    paths: tuple[str, ...]
    confined: bool
    """Refuse files that lie outside `root` once symbolic links are followed."""
    listed: tuple[FileState | None, ...] | None = None
    """What each file was when it was listed, None where it was not there; None as a whole where
    the files are on this machine."""

    def cut(self, start: int, stop: int) -> "FileRows":
        """Return the rows from `start` to `stop`."""
        listed = None if self.listed is None else self.listed[start:stop]
        return replace(self, paths=self.paths[start:stop], listed=listed)

    def sources(self) -> list[str]:
        """Return where each row comes from."""
        return [printable(path) for path in self.paths]

    def files(self) -> list[str]:
        """Return every file, relative to `root`."""
        return list(self.paths)

    def states(self) -> Mapping[str, FileState | None]:
        """Return what each file was when it was listed; nothing for files of this machine."""
        return {} if self.listed is None else dict(zip(self.paths, self.listed, strict=True))

    def read(self) -> Iterator[Raw]:
        """Read the rows in order, several at once from an object store.

        Raises:
            DataError: an object is gone or another since it was listed, or cannot be reached.
        """
        if self.listed is not None:
            files = zip(self.paths, self.listed, strict=True)
            return read_ahead(self._read_object, files, size_of=_size)
        root = os.path.realpath(self.root.path)
        return (_read_file(root, path, confined=self.confined) for path in self.paths)

    def _read_object(self, file: tuple[str, FileState | None]) -> Raw:
        path, state = file
        if state is None:
            return Unreadable("it does not exist")
        if state.size > MAX_FILE_BYTES:
            return too_many_bytes(state.size)
        place = self.root / path
        with refusing(place):
            return place.read_bytes(version=state.version or None)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRows:
    """Images already in memory, from a Python function or a data set of arrays."""

    values: Sequence[Raw]
    first_row: int = 0

    @property
    def root(self) -> None:
        """No file is involved."""
        return None

    def cut(self, start: int, stop: int) -> "ValueRows":
        """Return the rows from `start` to `stop`."""
        return ValueRows(values=self.values[start:stop], first_row=self.first_row + start)

    def sources(self) -> list[str]:
        """Return where each row comes from."""
        return [f"row#{self.first_row + index}" for index in range(len(self.values))]

    def files(self) -> list[str]:
        """Return every file: none."""
        return []

    def states(self) -> Mapping[str, FileState | None]:
        """Return what each file was when it was listed: nothing."""
        return {}

    def read(self) -> Iterator[Raw]:
        """Give the rows in order."""
        return iter(self.values)


Reader = FileRows | ParquetRows | TarRows | ValueRows


def open_regular(
    root: str, path: str, *, confined: bool, limit: int | None = MAX_FILE_BYTES
) -> int | Unreadable:
    """Open `path` below `root` and return its descriptor, if it is a regular file.

    Args:
        root: a folder with all symbolic links resolved.
        path: relative to `root`.
        confined: refuse what lies outside `root`.
        limit: most bytes that the file may have; None for a file of many images.
    """
    full = os.path.realpath(os.path.join(root, path))  # noqa: PTH118  fast, one call per row
    if confined and not full.startswith(root.rstrip("/") + "/"):
        return Unreadable("it is a symbolic link that leaves the source's folder")
    try:
        # Without O_NONBLOCK opening a named pipe would wait for its writer for ever.
        descriptor = os.open(full, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        return Unreadable(f"it cannot be opened: {getattr(error, 'strerror', None) or error}")
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and (limit is None or found.st_size <= limit):
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(found.st_mode):
        return too_many_bytes(found.st_size)
    return Unreadable("it is no regular file")


def _read_file(root: str, path: str, *, confined: bool) -> Raw:
    descriptor = open_regular(root, path, confined=confined)
    if isinstance(descriptor, Unreadable):
        return descriptor
    try:
        with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor has no path
            return file.read()
    except OSError as error:
        return Unreadable(f"it cannot be read: {error.strerror}")


def _size(file: tuple[str, FileState | None]) -> int:
    _, state = file
    return 0 if state is None else state.size
