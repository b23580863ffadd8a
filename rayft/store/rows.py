"""The row store: the prepared rows of one source, by id, larger than memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayft.errors import DataError, Problem
from rayft.storage.commit import sha256_of
from rayft.store.manifest import Manifest, load_manifest
from rayft.store.shards import image_rows, map_shard


@final
class RowStore:
    """Random access to the prepared rows of one source.

    A row's id is its place in the source, bad rows counted; so its shard and its place there
    are a division away. Images stay on disk, mapped into memory; the other columns are arrays.
    Pickles as its path: a worker opens its own.
    """

    path: Path
    manifest: Manifest
    labels: npt.NDArray[np.int32]
    """[num_rows] places in `manifest.classes`."""
    content_hashes: npt.NDArray[np.uint64]
    group_hashes: npt.NDArray[np.uint64]
    valid: npt.NDArray[np.bool_]
    """[num_rows] False where the image could not be read; its pixels are zeros."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._shape = (manifest.stored_size, manifest.stored_size, 3)
        self._row_bytes = manifest.stored_size**2 * 3
        self._shards = _map_shards(path, manifest, row_bytes=self._row_bytes)
        self._images = [image_rows(batch, row_bytes=self._row_bytes) for batch in self._shards]
        self.labels = self._column("label", np.int32)
        self.content_hashes = self._column("content_hash", np.uint64)
        self.group_hashes = self._column("group_hash", np.uint64)
        self.valid = self._column("valid", np.bool_)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open the row store in the folder `path`.

        Raises:
            DataError: the manifest or a shard is missing or damaged; hashes are not checked
                here but by `verify`.
        """
        return cls(Path(path), load_manifest(Path(path)))

    def __reduce__(self) -> tuple[Callable[[Path], "RowStore"], tuple[Path]]:
        return (type(self).open, (self.path,))

    @property
    def num_rows(self) -> int:
        """Slots in the store, those of unreadable rows included."""
        return len(self.labels)

    @property
    def stored_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.manifest.stored_size

    def gather(self, row_ids: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return the images of the rows `row_ids`, in that order; ids may repeat.

        Args:
            row_ids: [N] integers, each in [0, num_rows).

        Returns:
            [N, S, S, 3], a fresh array.

        Raises:
            IndexError: an id is out of range.
        """
        ids = np.asarray(row_ids, dtype=np.int64)
        if ids.size and not (ids.min() >= 0 and ids.max() < self.num_rows):
            raise IndexError(
                f"row ids must be in [0, {self.num_rows}); got {ids.min()}..{ids.max()}"
            )
        shards, places = np.divmod(ids, self.manifest.rows_per_shard)
        images = self._images
        # Row by row: with many shards a batch has about one row of each, and grouping them by
        # shard costs more than it saves.
        pairs = zip(shards.tolist(), places.tolist(), strict=True)
        rows = [images[shard][place] for shard, place in pairs]
        pixels = np.concatenate(rows) if rows else np.empty(0, dtype=np.uint8)
        return pixels.reshape(-1, *self._shape)

    def source_of(self, row_id: int) -> str:
        """Return the file, or file and row, that `row_id` came from."""
        shard, place = divmod(row_id, self.manifest.rows_per_shard)
        return str(self._shards[shard].column("source")[place].as_py())

    def verify(self) -> None:
        """Read every shard and compare its hash with the manifest's.

        Raises:
            DataError: naming every shard that is not as it was written.
        """
        damaged = [
            Problem(
                str(self.path / shard.file),
                "its SHA-256 differs from the manifest's",
                f"delete {self.path} and run `rayft prepare` again",
            )
            for shard in self.manifest.shards
            if sha256_of(self.path / shard.file) != shard.sha256
        ]
        if damaged:
            raise DataError(*damaged)

    def _column(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        pieces = [batch.column(name).to_numpy(zero_copy_only=False) for batch in self._shards]
        column = np.concatenate(pieces).astype(dtype, copy=False)
        column.flags.writeable = False
        return column


def _map_shards(path: Path, manifest: Manifest, *, row_bytes: int) -> list[Any]:
    batches, problems = [], []
    for shard in manifest.shards:
        try:
            batch = map_shard(path / shard.file)
            if batch.num_rows != shard.rows or batch.schema.field("image").type != pa.binary(
                row_bytes
            ):
                raise pa.ArrowInvalid("its rows are not those of the manifest")
            batches.append(batch)
        except (OSError, pa.ArrowException, KeyError) as error:
            fix = f"delete {path} and run `rayft prepare` again"
            problems.append(Problem(str(path / shard.file), f"cannot be opened: {error}", fix))
    if problems:
        raise DataError(*problems[:5])
    return batches
