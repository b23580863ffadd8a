"""The row store: the prepared rows of one source, by id, larger than memory."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayft.storage.location import Location
from rayft.store.cache import ShardCache
from rayft.store.index import RowIndex
from rayft.store.manifest import Manifest, load_manifest
from rayft.store.mapped import (
    Shards,
    StoreFiles,
    cannot_be_opened,
    needed,
    open_shards,
    split_rows,
    verify_files,
)
from rayft.store.shards import MappedShard


@final
class RowStore:
    """Random access to the prepared rows of one source.

    A row's id is its place in the source, bad rows counted; so its shard and its place there
    are a division away. Images stay on disk, mapped into memory; the other columns are arrays.
    A remote store's files are fetched into a cache on this machine, images as they are used.
    Pickles as its place: a worker opens its own.
    """

    place: Location
    manifest: Manifest
    labels: npt.NDArray[np.int32]
    """[num_rows] places in `manifest.classes`."""
    content_hashes: npt.NDArray[np.uint64]
    group_hashes: npt.NDArray[np.uint64]
    valid: npt.NDArray[np.bool_]
    """[num_rows] False where the image could not be read; its pixels are zeros."""

    def __init__(self, place: Location, manifest: Manifest, cache: ShardCache | None) -> None:
        self.place = place
        self.manifest = manifest
        self._cache = cache
        self._shape = (manifest.stored_size, manifest.stored_size, manifest.channels)
        self._index = _open_index(place, manifest, cache)
        self._shards = _open_shards(place, manifest, cache)
        self.labels = self._index.labels
        self.content_hashes = self._index.content_hashes
        self.group_hashes = self._index.group_hashes
        self.valid = self._index.valid

    @classmethod
    def open(cls, place: Location, cache: ShardCache | None = None) -> Self:
        """Open the row store in the folder `place`.

        Args:
            place: the folder.
            cache: where files of a remote store are kept on this machine; unused for a local one.

        Raises:
            DataError: the manifest or a shard is missing or damaged; hashes of local files are
                not checked here but by `verify`.
        """
        return cls(place, load_manifest(place), cache)

    def __reduce__(
        self,
    ) -> tuple[Callable[..., "RowStore"], tuple[Location, ShardCache | None]]:
        return (type(self).open, (self.place, self._cache))

    @property
    def num_rows(self) -> int:
        """Slots in the store, those of unreadable rows included."""
        return len(self.labels)

    @property
    def stored_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.manifest.stored_size

    def gather(self, row_ids: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return the images of the rows `row_ids` of a decoded store, in that order.

        Args:
            row_ids: [N] integers, each in [0, num_rows); ids may repeat.

        Returns:
            [N, S, S, C], a fresh array.

        Raises:
            IndexError: an id is out of range.
            DataError: a shard cannot be fetched.
        """
        numbers, places = self._places(row_ids)
        shards = self._shards.take(numbers)
        # Row by row: with many shards a batch has about one row of each, and grouping them by
        # shard costs more than it saves.
        rows = [shards[shard].pixels(place) for shard, place in zip(numbers, places, strict=True)]
        pixels = np.concatenate(rows) if rows else np.empty(0, dtype=np.uint8)
        return pixels.reshape(-1, *self._shape)

    def gather_files(self, row_ids: npt.ArrayLike) -> list[memoryview]:
        """Return the image files of the rows `row_ids` [N] of an encoded store, in that order.

        Those of rows that are not valid are empty.

        Raises:
            IndexError: an id is out of range.
            DataError: a shard cannot be fetched.
        """
        numbers, places = self._places(row_ids)
        shards = self._shards.take(numbers)
        return [shards[shard].content(place) for shard, place in zip(numbers, places, strict=True)]

    def shards_of(self, row_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the number of the shard of each row [N]."""
        return row_ids // self.manifest.rows_per_shard

    def fetch_ahead(self, shards: Iterable[int]) -> None:
        """Begin to bring shards to this machine that will be needed soon."""
        self._shards.ahead(shards)

    def source_of(self, row_id: int) -> str:
        """Return the file, or file and row, that `row_id` came from."""
        return str(self._index.sources[row_id].as_py())

    def verify(self) -> None:
        """Read every file and compare its hash with the manifest's.

        Raises:
            DataError: naming every file that is not as it was written.
        """
        records = (self.manifest.index, *self.manifest.shards)
        verify_files(self.place, records, fix=_fix(self.place))

    def _places(self, row_ids: npt.ArrayLike) -> tuple[list[int], list[int]]:
        """Return the shard of each row, and its place there."""
        shards, places = split_rows(
            row_ids, num_rows=self.num_rows, rows_per_shard=self.manifest.rows_per_shard
        )
        return shards.tolist(), places.tolist()


def _open_index(place: Location, manifest: Manifest, cache: ShardCache | None) -> RowIndex:
    record = manifest.index
    opens = partial(RowIndex.open, num_rows=manifest.num_rows)
    try:
        if place.is_local:
            return opens((place / record.file).path)
        return needed(cache).opened(place, record, opens)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise cannot_be_opened(place, record, error, fix=_fix(place)) from error


def _open_shards(
    place: Location, manifest: Manifest, cache: ShardCache | None
) -> Shards[MappedShard]:
    row_bytes = manifest.stored_size**2 * manifest.channels
    opens = partial(MappedShard, stored_as=manifest.stored_as, row_bytes=row_bytes)
    return open_shards(StoreFiles(place, manifest.shards, opens, _fix(place)), cache)


def _fix(place: Location) -> str:
    return f"delete {place} and run `rayft prepare` again"
