"""Rows of a CSV manifest to predict: read once to count and check them, then by byte offsets."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, final

import pyarrow as pa

from rayft.data.predict_columns import Wanted, choose_carried, find_image
from rayft.data.predict_rows import RawBatch, reading_named
from rayft.data.raw import printable
from rayft.data.remote import how_to_test
from rayft.errors import DataError, Problem
from rayft.storage.location import Changed, FileState, Location, StorageFault

ROWS_PER_MARK = 256
"""Rows between two remembered offsets."""

_Record = list[str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CsvColumns:
    """What is read of every row."""

    header: tuple[str, ...]
    image: str
    named_root: Location
    """The folder that paths are relative to."""
    carried: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CsvChunk:
    """Some rows of a CSV file."""

    place: Location
    state: FileState
    offset: int
    """Byte at which a row begins."""
    skip: int
    """Rows from there to the first one of the chunk."""
    num_rows: int
    columns: CsvColumns

    def read(self, rows_per_batch: int) -> Iterator[RawBatch]:
        """Give the rows in order, in batches of `rows_per_batch`.

        Raises:
            DataError: the file is another than the one listed, or cannot be read.
        """
        with _opened(self.place, self.state) as file:
            file.seek(self.offset)
            records = (record for record in csv.reader(_Lines(file, offset=self.offset)) if record)
            rows = islice(records, self.skip, self.skip + self.num_rows)
            while batch := list(islice(rows, rows_per_batch)):
                yield self._batch(batch)

    def _batch(self, records: Sequence[_Record]) -> RawBatch:
        columns = self.columns
        place = {name: index for index, name in enumerate(columns.header)}

        def values(name: str) -> list[str | None]:
            index = place[name]
            return [record[index] if index < len(record) else None for record in records]

        schema = _text_schema(columns.carried)
        arrays = [pa.array(values(name), pa.string()) for name in columns.carried]
        return RawBatch(
            read=reading_named(columns.named_root, values(columns.image)),
            carried=pa.Table.from_arrays(arrays, schema=schema),
            num_rows=len(records),
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CsvInput:
    """All rows of a CSV file."""

    where: str
    place: Location
    state: FileState
    num_rows: int
    marks: tuple[int, ...]
    """Byte at which every `ROWS_PER_MARK`-th row begins."""
    columns: CsvColumns

    @property
    def version(self) -> str:
        """Size and version of the file."""
        return f"{self.place} {self.state.size} {self.state.version}"

    @property
    def carried(self) -> Any:  # noqa: ANN401  pyarrow has no types
        """Schema of the columns that go through to the output."""
        return _text_schema(self.columns.carried)

    def is_as_listed(self) -> bool:
        """Return whether the file is still the one that was listed: no other one is read."""
        return True

    def chunks(self, rows: int) -> list[CsvChunk]:
        """Cut the rows into chunks of `rows`; the last may be shorter."""
        return [
            CsvChunk(
                place=self.place,
                state=self.state,
                offset=self.marks[first // ROWS_PER_MARK],
                skip=first % ROWS_PER_MARK,
                num_rows=min(rows, self.num_rows - first),
                columns=self.columns,
            )
            for first in range(0, self.num_rows, rows)
        ]


def list_csv_to_predict(
    place: Location, *, wanted: Wanted, named_root: Location | None, where: str
) -> CsvInput:
    """Count and check the rows of a CSV file with a header line, in one pass and little memory.

    Empty lines are passed over; a row with fewer values than the header lacks the last ones.

    Args:
        place: the file.
        wanted: what the user asks of the columns.
        named_root: the folder that paths are relative to; None: the file's own.
        where: the input, as messages name it.

    Raises:
        DataError: the file cannot be read, is no CSV file, or lacks a column.
    """
    state = _state(place)
    with _opened(place, state) as file:
        lines = _Lines(file, offset=0)
        records = csv.reader(lines)
        header = next((record for record in records if record), [])
        columns = _choose(header, wanted, named_root or place.parent, printable(str(place)))
        marks, num_rows, start = [], 0, lines.offset
        for record in records:
            if record:
                if len(record) > len(header):
                    raise _too_long(place, records.line_num, len(record), len(header))
                if num_rows % ROWS_PER_MARK == 0:
                    marks.append(start)
                num_rows += 1
            start = lines.offset
    return CsvInput(
        where=where,
        place=place,
        state=state,
        num_rows=num_rows,
        marks=tuple(marks),
        columns=columns,
    )


class _Lines:
    """Lines of a file as text, and the byte at which the next one begins."""

    def __init__(self, file: BinaryIO, *, offset: int) -> None:
        self._file = file
        self.offset = offset

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        encoding = "utf-8" if self.offset else "utf-8-sig"
        self.offset += len(line)
        return line.decode(encoding)


def _choose(header: _Record, wanted: Wanted, named_root: Location, where: str) -> CsvColumns:
    image = find_image(wanted, dict.fromkeys(header, "text"), where=where)
    return CsvColumns(
        header=tuple(header),
        image=image,
        named_root=named_root,
        carried=choose_carried(wanted, header, is_image=lambda _: False, where=where),
    )


def _text_schema(names: Sequence[str]) -> Any:  # noqa: ANN401  pyarrow has no types
    return pa.schema([(name, pa.string()) for name in names])


def _state(place: Location) -> FileState:
    try:
        state = place.stat()
    except OSError as error:
        raise _unread(place, error) from error
    if state is None:
        raise DataError(Problem(str(place), "there is no such file", "check the spelling"))
    return state


@contextmanager
def _opened(place: Location, state: FileState) -> Iterator[BinaryIO]:
    try:
        with place.open(version=state.version) as file:
            yield file
    except OSError as error:
        raise _unread(place, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        fix = "save it as a comma-separated file in UTF-8"
        raise DataError(Problem(str(place), f"it is no CSV file: {error}", fix)) from error


def _unread(place: Location, error: OSError) -> DataError:
    if isinstance(error, Changed | FileNotFoundError):
        what, fix = "it changed since it was listed", "let whatever writes it finish"
    else:
        what = f"it cannot be read: {error.strerror or error}"
        lost = isinstance(error, StorageFault)
        fix = how_to_test(place) if lost else "check the path and its permissions"
    return DataError(Problem(printable(str(place)), what, fix))


def _too_long(place: Location, line: int, found: int, expected: int) -> DataError:
    what = f"line {line} has {found} values, and the header names {expected} columns"
    return DataError(Problem(printable(str(place)), what, "quote values that hold a comma"))
