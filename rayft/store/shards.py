"""One shard of a row store: the images of a range of rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayft.storage.location import Location
from rayft.store.files import fixed_rows, map_file, write_file
from rayft.store.manifest import FileRecord, StoredAs

SHARD_BYTES = 32 * 2**20
MAX_ROWS_PER_SHARD = 8192

Images = npt.NDArray[np.uint8] | Sequence[bytes]
"""Decoded [N, S, S, C], or the file of each image; zeros, or nothing, where a row is not valid."""


def rows_per_shard(row_bytes: float) -> int:
    """Return the rows of a full shard: a fixed number, so that ids map to places.

    32 MiB keeps a shard large enough to read in one go and small enough to spread the work of
    building over many processes.

    Args:
        row_bytes: bytes of one stored row, on average.
    """
    return max(1, min(MAX_ROWS_PER_SHARD, int(SHARD_BYTES // max(1.0, row_bytes))))


def shard_name(index: int) -> str:
    """Return the file name of shard `index`."""
    return f"shard-{index:05d}.arrow"


def write_shard(folder: Location, index: int, images: Images) -> FileRecord:
    """Write one shard into `folder`; equal images give equal bytes."""
    return write_file(folder / shard_name(index), pa.record_batch({"image": _column(images)}))


def _column(images: Images) -> Any:  # noqa: ANN401  pyarrow has no types
    if not isinstance(images, np.ndarray):
        return pa.array(images, pa.large_binary())
    return fixed_rows(images)


@final
class MappedShard:
    """A shard in memory: a map of its file."""

    num_bytes: int

    def __init__(
        self, path: Path, record: FileRecord, *, stored_as: StoredAs, row_bytes: int
    ) -> None:
        """Map the file.

        Args:
            path: the file.
            record: what the manifest says of it.
            stored_as: what a row is.
            row_bytes: bytes of a decoded row.

        Raises:
            pyarrow.ArrowInvalid: it is not this shard.
            OSError: it cannot be read.
        """
        column = map_file(path).column("image")
        expected = pa.binary(row_bytes) if stored_as == "decoded" else pa.large_binary()
        if len(column) != record.rows or column.type != expected:
            raise pa.ArrowInvalid("its rows are not those of the manifest")
        self.num_bytes = record.bytes
        buffers = column.buffers()
        if stored_as == "decoded":
            count = record.rows * row_bytes
            values = np.frombuffer(buffers[1], dtype=np.uint8, count=count)
            self._pixels: npt.NDArray[np.uint8] = values.reshape(record.rows, row_bytes)
        else:
            self._ends = np.frombuffer(buffers[1], dtype=np.int64, count=record.rows + 1)
            self._content = memoryview(buffers[2]) if buffers[2] is not None else memoryview(b"")

    def pixels(self, place: int) -> npt.NDArray[np.uint8]:
        """Return the pixels [S * S * C] of a row of a decoded store, without copying."""
        row: npt.NDArray[np.uint8] = self._pixels[place]
        return row

    def content(self, place: int) -> memoryview:
        """Return the image file of a row of an encoded store, without copying."""
        return self._content[self._ends[place] : self._ends[place + 1]]
