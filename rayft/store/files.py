"""The files of a row store: uncompressed Arrow IPC with a single record batch.

A single batch keeps a column contiguous, so one memory map serves as an array without copying
or parsing anything.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayft.storage.location import Location
from rayft.store.manifest import FileRecord


def write_file(place: Location, batch: Any) -> FileRecord:  # noqa: ANN401  a RecordBatch
    """Write a record batch as a file; equal batches give equal bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content = memoryview(sink.getvalue()).cast("B")
    place.write_bytes(content)
    return FileRecord(
        file=place.name,
        sha256=hashlib.sha256(content).hexdigest(),
        rows=batch.num_rows,
        bytes=content.nbytes,
    )


def fixed_rows(rows: npt.NDArray[Any]) -> Any:  # noqa: ANN401  pyarrow has no types
    """Return an array [N, ...] as an Arrow column of N values of equal length, without copying."""
    content = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(content.shape[1]), len(content), [None, pa.py_buffer(content)]
    )


def map_file(path: Path) -> Any:  # noqa: ANN401  pyarrow has no types: a RecordBatch
    """Map a file into memory and return its record batch, whose arrays live in the map.

    The file is closed again at once: a store may have more shards than a process may have open
    files, and the map stays until the last array is gone.

    Raises:
        pyarrow.ArrowInvalid: the file is none of these.
        OSError: the file cannot be read.
    """
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).get_batch(0)
