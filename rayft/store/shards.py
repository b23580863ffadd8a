"""One shard of a row store: an uncompressed Arrow IPC file with a single record batch.

A single batch keeps the images of a shard contiguous, so one memory map serves as an array
`[rows, bytes of a row]` without copying or parsing anything.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayft.storage.commit import write_file_atomically
from rayft.store.manifest import ShardEntry

SHARD_BYTES = 32 * 2**20
MAX_ROWS_PER_SHARD = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardColumns:
    """The rows of one shard, column by column."""

    image: npt.NDArray[np.uint8]
    """[N, S, S, 3]; zeros where a row is not valid."""
    label: npt.NDArray[np.int32]
    """[N] places in the manifest's `classes`."""
    content_hash: npt.NDArray[np.uint64]
    """[N] hash of the source's bytes, before decoding."""
    group_hash: npt.NDArray[np.uint64]
    """[N] hash of what must stay together: the group, or the content where there is none."""
    valid: npt.NDArray[np.bool_]
    """[N] False where the image cannot be read."""
    source: list[str]
    """[N] file, or file and row, for people."""


def rows_per_shard(stored_size: int) -> int:
    """Return the rows of a full shard; fixed by the image size, so that ids map to places.

    32 MiB keeps a shard large enough to read in one go and small enough to spread the work of
    building over many processes.
    """
    return max(1, min(MAX_ROWS_PER_SHARD, SHARD_BYTES // (stored_size * stored_size * 3)))


def shard_name(index: int) -> str:
    """Return the file name of shard `index`."""
    return f"shard-{index:05d}.arrow"


def write_shard(folder: Path, index: int, columns: ShardColumns) -> ShardEntry:
    """Write one shard into `folder`; equal columns give equal bytes."""
    sink = pa.BufferOutputStream()
    batch = _record_batch(columns)
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content = memoryview(sink.getvalue())
    write_file_atomically(folder / shard_name(index), content)
    return ShardEntry(
        file=shard_name(index),
        sha256=hashlib.sha256(content).hexdigest(),
        rows=len(columns.source),
        bytes=content.nbytes,
    )


def map_shard(path: Path) -> Any:  # noqa: ANN401  pyarrow has no types: a RecordBatch
    """Map a shard into memory and return its record batch, whose arrays live in the map.

    The file is closed again at once: a store may have more shards than a process may have open
    files, and the map stays until the last array is gone.

    Raises:
        pyarrow.ArrowInvalid: the file is no shard.
        OSError: the file cannot be read.
    """
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).get_batch(0)


def image_rows(batch: Any, *, row_bytes: int) -> npt.NDArray[np.uint8]:  # noqa: ANN401  as above
    """Return the images of a mapped shard as [rows, row_bytes], without copying."""
    buffer = batch.column("image").buffers()[1]
    images = np.frombuffer(buffer, dtype=np.uint8, count=batch.num_rows * row_bytes)
    return images.reshape(batch.num_rows, row_bytes)


def _record_batch(columns: ShardColumns) -> Any:  # noqa: ANN401  pyarrow has no types
    rows = len(columns.source)
    pixels = np.ascontiguousarray(columns.image).reshape(rows, -1)
    image = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(pixels.shape[1]), rows, [None, pa.py_buffer(pixels)]
    )
    return pa.record_batch(
        {
            "image": image,
            "label": pa.array(columns.label, pa.int32()),
            "content_hash": pa.array(columns.content_hash, pa.uint64()),
            "group_hash": pa.array(columns.group_hash, pa.uint64()),
            "valid": pa.array(columns.valid, pa.bool_()),
            "source": pa.array(columns.source, pa.string()),
        }
    )
