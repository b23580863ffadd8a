"""Some rows of parquet files to predict, read by ranges of rows."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import pyarrow as pa

from rayft.data.parquet_files import open_parquet, refusing_damage
from rayft.data.parquet_rows import ParquetPart
from rayft.data.predict_rows import RawBatch, reading_named
from rayft.data.predict_tables import in_batches
from rayft.data.raw import Raw
from rayft.storage.location import Location
from rayft.transforms.decode import Unreadable

ImageKind = Literal["bytes", "struct", "path"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetColumns:
    """What is read of every file."""

    image: str
    image_kind: ImageKind
    """Encoded bytes, a struct with the member `bytes`, or paths of files."""
    named_root: Location
    """The folder that paths are relative to."""
    carried: Any
    """Schema of the columns that go through to the output."""

    @property
    def leaf(self) -> str:
        """Name of the column of images in the file."""
        return f"{self.image}.bytes" if self.image_kind == "struct" else self.image


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetChunk:
    """Some rows of parquet files."""

    root: Location
    parts: tuple[ParquetPart, ...]
    columns: ParquetColumns

    @property
    def num_rows(self) -> int:
        """Rows."""
        return sum(part.stop - part.start for part in self.parts)

    def read(self, rows_per_batch: int) -> Iterator[RawBatch]:
        """Give the rows in order, in batches of `rows_per_batch`.

        Raises:
            DataError: a file is damaged, or another than the one listed.
        """
        with closing(self._tables(rows_per_batch)) as tables:
            for table in in_batches(tables, rows_per_batch):
                yield RawBatch(
                    read=self._reading(table.column(self.columns.image)),
                    carried=table.select(self.columns.carried.names),
                    num_rows=table.num_rows,
                )

    def _reading(self, images: Any) -> Callable[[], Iterable[Raw]]:  # noqa: ANN401
        columns = self.columns
        if columns.image_kind != "path":
            return partial(_contents, images, in_struct=columns.image_kind == "struct")
        return reading_named(columns.named_root, images.to_pylist())

    def _tables(self, rows_per_read: int) -> Generator[Any]:
        for part in self.parts:
            place = self.root / part.file
            with refusing_damage(place, "it cannot be read"):
                yield from _read(place, part, self.columns, rows_per_read)


def _read(
    place: Location, part: ParquetPart, columns: ParquetColumns, rows_per_read: int
) -> Iterator[Any]:
    with open_parquet(place, part.listed, stream=True) as file:
        groups, first = _row_groups(file.metadata, part)
        skip, left = part.start - first, part.stop - part.start
        names = list(dict.fromkeys([columns.leaf, *columns.carried.names]))
        for batch in file.iter_batches(
            rows_per_read, row_groups=groups, columns=names, use_threads=False
        ):
            taken = batch.slice(skip, left)
            skip = max(0, skip - batch.num_rows)
            left -= taken.num_rows
            if taken.num_rows:
                # Without the fields' metadata, in which files may differ.
                yield pa.table({field.name: taken.column(field.name) for field in taken.schema})
            if not left:
                return
    raise pa.ArrowInvalid("it holds fewer rows than it says")


def _row_groups(footer: Any, part: ParquetPart) -> tuple[list[int], int]:  # noqa: ANN401
    """Return the row groups that hold a part, and the first row of the first of them."""
    groups: list[int] = []
    first = seen = 0
    for index in range(footer.num_row_groups):
        rows = footer.row_group(index).num_rows
        if seen < part.stop and seen + rows > part.start:
            first = first if groups else seen
            groups.append(index)
        seen += rows
    return groups, first


def _contents(column: Any, *, in_struct: bool) -> Iterator[Raw]:  # noqa: ANN401
    for chunk in column.chunks:
        for value in chunk.field("bytes") if in_struct else chunk:
            yield value.as_py() or Unreadable("the row holds no image bytes")
