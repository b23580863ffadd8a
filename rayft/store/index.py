"""The index of a row store: the small columns of all rows in one Arrow IPC file.

It is apart from the images, so that labels and splits are known without fetching a shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayft.storage.location import Location
from rayft.store.files import map_file, write_file
from rayft.store.manifest import FileRecord

INDEX_NAME = "rows.arrow"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowColumns:
    """The small columns of some rows."""

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

    def to_batch(self) -> Any:  # noqa: ANN401  pyarrow has no types: a RecordBatch
        """Return the columns as one Arrow record batch."""
        return pa.record_batch(
            {
                "label": pa.array(self.label, pa.int32()),
                "content_hash": pa.array(self.content_hash, pa.uint64()),
                "group_hash": pa.array(self.group_hash, pa.uint64()),
                "valid": pa.array(self.valid, pa.bool_()),
                "source": pa.array(self.source, pa.string()),
            }
        )

    def to_bytes(self) -> bytes:
        """Return the columns as an Arrow stream: how they travel from a task to the driver."""
        batch, sink = self.to_batch(), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())


def write_index(folder: Location, parts: Sequence[bytes]) -> FileRecord:
    """Write the index of a store from the columns of its shards, in their order.

    Args:
        folder: the store.
        parts: what `RowColumns.to_bytes` returned for each shard.
    """
    tables = [pa.ipc.open_stream(part).read_all() for part in parts]
    table = pa.concat_tables(tables).combine_chunks()
    # A column of text beyond 2 GiB comes back in chunks; one batch then needs wider offsets.
    source = table.schema.get_field_index("source")
    table = table.set_column(source, "source", table["source"].cast(pa.large_string()))
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    return write_file(folder / INDEX_NAME, batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowIndex:
    """The index of an opened store; its columns lie in a memory map or are read-only arrays."""

    labels: npt.NDArray[np.int32]
    content_hashes: npt.NDArray[np.uint64]
    group_hashes: npt.NDArray[np.uint64]
    valid: npt.NDArray[np.bool_]
    sources: Any
    """pyarrow array of text."""

    @classmethod
    def open(cls, path: Path, *, num_rows: int) -> Self:
        """Map the index in the file `path`.

        Raises:
            pyarrow.ArrowInvalid: it is no index of `num_rows` rows.
            OSError: it cannot be read.
        """
        batch = map_file(path)
        if batch.num_rows != num_rows:
            raise pa.ArrowInvalid("its rows are not those of the manifest")
        return cls(
            labels=_column(batch, "label", np.int32),
            content_hashes=_column(batch, "content_hash", np.uint64),
            group_hashes=_column(batch, "group_hash", np.uint64),
            valid=_column(batch, "valid", np.bool_),
            sources=batch.column("source"),
        )


def _column(batch: Any, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:  # noqa: ANN401
    column: npt.NDArray[Any] = (
        batch.column(name).to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    )
    column.flags.writeable = False
    return column
