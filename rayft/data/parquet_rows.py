"""Images in a column of parquet files, read forward and a batch of rows at a time.

A row group cannot be entered in its middle: whoever wants its last rows reads past all others.
So the file that was read last stays open at the row where reading stopped, and the next shard
of the same thread goes on there. A row group of thirty shards is then read once by each process
that makes some of them, not thirty times.
"""

import threading
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, final

import pyarrow as pa

from rayft.data.parquet_files import open_parquet, refusing_damage
from rayft.data.raw import Raw, printable
from rayft.storage.location import FileState, Location
from rayft.transforms.decode import Unreadable

ROWS_PER_READ = 256
BYTES_PER_READ = 32 * 2**20
"""Most bytes of images that are decoded at once, about, or one row where it is larger."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetPart:
    """A range of rows of one parquet file."""

    file: str
    """Path relative to the reader's root."""
    start: int
    stop: int
    listed: FileState | None = None
    """Size and version of an object when it was listed; None for a file on this machine."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetRows:
    """Encoded images in a column of parquet files."""

    root: Location
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

    def states(self) -> Mapping[str, FileState | None]:
        """Return what each file was when it was listed; nothing for files of this machine."""
        return {part.file: part.listed for part in self.parts if part.listed is not None}

    def read(self) -> Iterator[Raw]:
        """Read the rows in order.

        Raises:
            DataError: a file is damaged, so that its rows cannot be told apart, or an object is
                gone or another since it was listed.
        """
        for part in self.parts:
            place = self.root / part.file
            with refusing_damage(place, "cannot be read"):
                yield from _read(place, part, reader=self)


def _read(place: Location, part: ParquetPart, *, reader: ParquetRows) -> Iterator[Raw]:
    key = (place, part.listed or _state(place), reader.column, reader.in_struct)
    column = _kept.take(key) or _Column(place, part.listed, reader=reader)
    try:
        yield from column.read(part.start, part.stop)
    except BaseException:
        column.close()
        raise
    _kept.put(key, column)


def _state(place: Location) -> Hashable:
    found = place.path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@final
class _Column:
    """A column of one file, open at some row."""

    def __init__(self, place: Location, listed: FileState | None, *, reader: ParquetRows) -> None:
        self._closing = ExitStack()
        self._file = self._closing.enter_context(open_parquet(place, listed, stream=True))
        self._in_struct = reader.in_struct
        self._leaf = f"{reader.column}.bytes" if reader.in_struct else reader.column
        footer = self._file.metadata
        groups = range(footer.num_row_groups)
        rows = (footer.row_group(group).num_rows for group in groups)
        self._starts: list[int] = list(accumulate(rows, initial=0))
        self._batches: Iterator[Any] = iter(())
        self._rest = pa.array([], pa.binary())
        self._next: int = -1
        """The row that `_rest` starts with."""

    @property
    def is_at_end(self) -> bool:
        return self._next >= self._starts[-1]

    def read(self, start: int, stop: int) -> Iterator[Raw]:
        """Read the rows from `start` to `stop`, and stay there."""
        group = bisect_right(self._starts, start) - 1
        if not self._starts[group] <= self._next <= start:
            self._batches = self._read_groups(group)
            self._next, self._rest = self._starts[group], self._rest[:0]
        while self._next < stop:
            if not len(self._rest):
                self._rest = next(self._batches)
            skipped = min(max(0, start - self._next), len(self._rest))
            taken = self._rest[skipped : stop - self._next]
            self._rest = self._rest[skipped + len(taken) :]
            self._next += skipped + len(taken)
            for value in taken:
                yield value.as_py() or Unreadable("the row holds no image bytes")

    def close(self) -> None:
        self._closing.close()

    def _read_groups(self, first: int) -> Iterator[Any]:
        for group in range(first, len(self._starts) - 1):
            rows = self._rows_per_read(group)
            for batch in self._file.iter_batches(
                rows, row_groups=[group], columns=[self._leaf], use_threads=False
            ):
                values = batch.column(0)
                yield values.field("bytes") if self._in_struct else values
        raise pa.ArrowInvalid("it holds fewer rows than it says")

    def _rows_per_read(self, group: int) -> int:
        footer = self._file.metadata.row_group(group)
        chunks = [footer.column(index) for index in range(footer.num_columns)]
        leaf = next((chunk for chunk in chunks if chunk.path_in_schema == self._leaf), None)
        size = footer.total_byte_size if leaf is None else leaf.total_uncompressed_size
        return max(1, min(ROWS_PER_READ, int(BYTES_PER_READ * footer.num_rows // max(1, size))))


@final
class _Kept(threading.local):
    """The column that this thread read last, where rows are left in it."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._column: _Column | None = None

    def take(self, key: Hashable) -> _Column | None:
        """Return the column, if it is the one; else close it."""
        column, self._column = self._column, None
        if column is None or self._key == key:
            return column
        column.close()
        return None

    def put(self, key: Hashable, column: _Column) -> None:
        """Keep a column, if rows are left in it."""
        if column.is_at_end:
            column.close()
        else:
            self._key, self._column = key, column


_kept = _Kept()
