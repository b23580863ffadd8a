"""The store of activations: what a frozen part of a model gives for every row, computed once."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayft.errors import DataError, Problem
from rayft.storage.location import Location
from rayft.store.activation_manifest import (
    ActivationManifest,
    bytes_of_row,
    fix_for,
    load_activation_manifest,
    numpy_type,
)
from rayft.store.cache import ShardCache
from rayft.store.files import fixed_rows, map_file, write_file
from rayft.store.manifest import FileRecord
from rayft.store.mapped import StoreFiles, open_shards, split_rows, verify_files
from rayft.store.shards import shard_name

_PROBLEMS_SHOWN = 5


def write_activation_shard(folder: Location, index: int, rows: npt.NDArray[Any]) -> FileRecord:
    """Write one shard into `folder`; equal rows give equal bytes.

    Args:
        folder: the store, or where it is built.
        index: number of the shard.
        rows: [N, *shape] float32, float16, or uint16 with the bits of bf16; N is at least 1.
    """
    return write_file(folder / shard_name(index), pa.record_batch({"row": fixed_rows(rows)}))


@final
class MappedActivations:
    """A shard in memory: a map of its file."""

    num_bytes: int
    rows: npt.NDArray[Any]
    """[N, values of a row]; lies in the file, read-only."""

    def __init__(self, path: Path, record: FileRecord, *, manifest: ActivationManifest) -> None:
        """Map the file.

        Args:
            path: the file.
            record: what the manifest says of it.
            manifest: that of the store.

        Raises:
            pyarrow.ArrowInvalid: it is not this shard.
            OSError: it cannot be read.
        """
        if path.stat().st_size != record.bytes:
            raise pa.ArrowInvalid("its size is not that of the manifest")
        column = map_file(path).column("row")
        if len(column) != record.rows or column.type != pa.binary(_row_bytes(manifest)):
            raise pa.ArrowInvalid("its rows are not those of the manifest")
        values = np.frombuffer(column.buffers()[1], dtype=np.uint8)
        content = values[: record.rows * _row_bytes(manifest)].view(numpy_type(manifest.dtype))
        self.rows = content.reshape(record.rows, -1)
        self.num_bytes = record.bytes


@final
class ActivationStore:
    """Random access to the activations of one frozen part, row by row.

    Rows are found by their place, 0 to num_rows - 1: which row of a dataset lies where is known
    to whoever asked for the store. Files are mapped into memory, those of a remote store fetched
    into a cache on this machine as they are used. Pickles as its place: a worker opens its own.
    """

    place: Location
    manifest: ActivationManifest

    def __init__(
        self, place: Location, manifest: ActivationManifest, cache: ShardCache | None
    ) -> None:
        self.place = place
        self.manifest = manifest
        self._cache = cache
        self._none = np.empty(0, numpy_type(manifest.dtype))
        opens = partial(MappedActivations, manifest=manifest)
        files = StoreFiles(place, manifest.shards, opens, fix_for(place))
        self._shards = open_shards(files, cache)

    @classmethod
    def open(cls, place: Location, cache: ShardCache | None = None) -> Self:
        """Open the store in the folder `place`.

        Args:
            place: the folder.
            cache: where files of a remote store are kept on this machine; unused for a local one.

        Raises:
            DataError: the manifest or a shard is missing, of another size, or none; hashes of
                local files are not checked here but by `verify`.
        """
        return cls(place, manifest_of_whole(place), cache)

    def __reduce__(
        self,
    ) -> tuple[Callable[..., "ActivationStore"], tuple[Location, ShardCache | None]]:
        return (type(self).open, (self.place, self._cache))

    @property
    def num_rows(self) -> int:
        """Rows in the store."""
        return self.manifest.num_rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.manifest.shape

    def gather(self, places: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the rows at `places`, in that order.

        Args:
            places: [N] integers, each in [0, num_rows); they may repeat.

        Returns:
            [N, *shape], a fresh array: float32, float16, or uint16 with the bits of bf16.

        Raises:
            IndexError: a place is out of range.
            DataError: a shard cannot be fetched.
        """
        numbers, within = self._split(places)
        shards = self._shards.take(numbers.tolist())
        if len(shards) == 1:
            (shard,) = shards.values()
            found = np.take(shard.rows, within, axis=0)
        else:
            # Row by row: grouping them by shard needs a second copy, which costs more.
            pairs = zip(numbers.tolist(), within.tolist(), strict=True)
            found = np.concatenate([self._none, *(shards[n].rows[at] for n, at in pairs)])
        return found.reshape(-1, *self.shape)

    def verify(self) -> None:
        """Read every file and compare its hash with the manifest's.

        Raises:
            DataError: naming every file that is not as it was written.
        """
        verify_store(self.place)

    def _split(self, places: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return split_rows(
            places, num_rows=self.num_rows, rows_per_shard=self.manifest.rows_per_shard
        )


def verify_store(place: Location) -> None:
    """Read every file of the store in `place` and compare its hash with the manifest's.

    Raises:
        DataError: the manifest cannot be read, or naming every file that is not as it was written.
        OSError: a file cannot be read.
    """
    shards = load_activation_manifest(place).shards
    verify_files(place, shards, fix=fix_for(place))


def manifest_of_whole(place: Location) -> ActivationManifest:
    """Return the manifest of the store in `place` after a look at the sizes of its files.

    Raises:
        DataError: the manifest or a shard is missing or damaged.
    """
    manifest = load_activation_manifest(place)
    sizes = {entry.path: entry.size for entry in place.files()}
    problems = [
        Problem(str(place / record.file), _wrong_size(record, sizes), fix_for(place))
        for record in manifest.shards
        if sizes.get(record.file) != record.bytes
    ]
    if problems:
        raise DataError(*problems[:_PROBLEMS_SHOWN])
    return manifest


def _wrong_size(record: FileRecord, sizes: dict[str, int]) -> str:
    if record.file not in sizes:
        return "it is missing"
    return f"expected {record.bytes:,} bytes, found {sizes[record.file]:,}"


def _row_bytes(manifest: ActivationManifest) -> int:
    return bytes_of_row(manifest.shape, manifest.dtype)
