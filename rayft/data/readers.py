"""Where the image bytes of a source lie, and how a shard's worth of them is read.

A reader is a small picklable description; it is cut by row range and sent to wherever the
shard is made. Reading a row never raises for that row's own fault: it gives `Unreadable`.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rayft.errors import DataError, Problem
from rayft.transforms.decode import Unreadable

Raw = bytes | npt.NDArray[np.uint8] | Unreadable
"""A row's image before decoding."""

ROWS_PER_READ = 256
MAX_FILE_BYTES = 512 * 2**20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FileRows:
    """One image file for each row."""

    root: str
    """Absolute path of the folder that `paths` are relative to."""
    paths: tuple[str, ...]
    confined: bool
    """Refuse files that lie outside `root` once symbolic links are followed."""

    def cut(self, start: int, stop: int) -> "FileRows":
        """Return the rows from `start` to `stop`."""
        return replace(self, paths=self.paths[start:stop])

    def sources(self) -> list[str]:
        """Return where each row comes from."""
        return [printable(path) for path in self.paths]

    def files(self) -> list[str]:
        """Return every file, relative to `root`."""
        return list(self.paths)

    def read(self) -> Iterator[Raw]:
        """Read the rows in order."""
        root = os.path.realpath(self.root)
        for path in self.paths:
            yield _read_file(root, path, confined=self.confined)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetPart:
    """A range of rows of one parquet file."""

    file: str
    """Path relative to the reader's root."""
    start: int
    stop: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetRows:
    """Encoded images in a column of parquet files."""

    root: str
    parts: tuple[ParquetPart, ...]
    column: str
    """The column with the images."""
    in_struct: bool
    """The column is a struct, and the images are its member `bytes`."""

    def cut(self, start: int, stop: int) -> "ParquetRows":
        """Return the rows from `start` to `stop`."""
        parts, first = [], 0
        for part in self.parts:
            begin = part.start + max(0, start - first)
            end = min(part.stop, part.start + stop - first)
            if begin < end:
                parts.append(replace(part, start=begin, stop=end))
            first += part.stop - part.start
        return replace(self, parts=tuple(parts))

    def sources(self) -> list[str]:
        """Return where each row comes from."""
        return [
            f"{printable(part.file)}#{row}"
            for part in self.parts
            for row in range(part.start, part.stop)
        ]

    def files(self) -> list[str]:
        """Return every file, relative to `root`."""
        return [part.file for part in self.parts]

    def read(self) -> Iterator[Raw]:
        """Read the rows in order.

        Raises:
            DataError: a file is damaged, so that its rows cannot be told apart.
        """
        for part in self.parts:
            path = Path(self.root, part.file)
            try:
                yield from _read_parquet(path, part, reader=self)
            except (OSError, pa.ArrowException) as error:
                fix = "write the file again, or take it out of the source"
                raise DataError(Problem(str(path), f"cannot be read: {error}", fix)) from error


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRows:
    """Images already in memory, from a Python function."""

    values: Sequence[Raw]
    first_row: int = 0

    @property
    def root(self) -> str:
        """No file is involved."""
        return ""

    def cut(self, start: int, stop: int) -> "ValueRows":
        """Return the rows from `start` to `stop`."""
        return ValueRows(values=self.values[start:stop], first_row=self.first_row + start)

    def sources(self) -> list[str]:
        """Return where each row comes from."""
        return [f"row#{self.first_row + index}" for index in range(len(self.values))]

    def files(self) -> list[str]:
        """Return every file: none."""
        return []

    def read(self) -> Iterator[Raw]:
        """Give the rows in order."""
        return iter(self.values)


Reader = FileRows | ParquetRows | ValueRows


def printable(path: str) -> str:
    """Return a path as valid text, whatever bytes the file system holds."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def open_regular(root: str, path: str, *, confined: bool) -> int | Unreadable:
    """Open `path` below `root` and return its descriptor, if it is a regular file.

    Args:
        root: a folder with all symbolic links resolved.
        path: relative to `root`.
        confined: refuse what lies outside `root`.
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
    if stat.S_ISREG(found.st_mode) and found.st_size <= MAX_FILE_BYTES:
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(found.st_mode):
        return Unreadable(f"it has {found.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
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


def _read_parquet(path: Path, part: ParquetPart, *, reader: ParquetRows) -> Iterator[Raw]:
    leaf = f"{reader.column}.bytes" if reader.in_struct else reader.column
    with pq.ParquetFile(path) as file:
        groups, first = _row_groups(file.metadata, part)
        skip, left = part.start - first, part.stop - part.start
        for batch in file.iter_batches(ROWS_PER_READ, row_groups=groups, columns=[leaf]):
            values = batch.column(0)
            if reader.in_struct:
                values = values.field("bytes")
            taken = values.slice(skip, left)
            skip = max(0, skip - len(values))
            left -= len(taken)
            for value in taken:
                yield value.as_py() or Unreadable("the row holds no image bytes")
            if not left:
                return


def _row_groups(metadata: pq.FileMetaData, part: ParquetPart) -> tuple[list[int], int]:
    groups: list[int] = []
    first = seen = 0
    for index in range(metadata.num_row_groups):
        rows = metadata.row_group(index).num_rows
        if seen < part.stop and seen + rows > part.start:
            if not groups:
                first = seen
            groups.append(index)
        seen += rows
    return groups, first
