"""The shards of an opened store: mapped at once from a local disk, or fetched as they are used."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Generic, Protocol, TypeVar, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rayft.errors import DataError, Problem
from rayft.storage.location import Location
from rayft.store.cache import ShardCache
from rayft.store.manifest import FileRecord

_FETCHES = 8
"""Shards fetched at the same time: one stream rarely fills the line to an object store."""

M = TypeVar("M", bound="Mapped")
M_co = TypeVar("M_co", bound="Mapped", covariant=True)


class Mapped(Protocol):
    """A file of a store in memory."""

    num_bytes: int


class Opens(Protocol[M_co]):
    """Maps a file of a store.

    Raises:
        pyarrow.ArrowInvalid: it is not the one that the manifest tells of.
        OSError: it cannot be read.
    """

    def __call__(self, path: Path, *, record: FileRecord) -> M_co:
        """Map the file `path`, which the manifest tells of in `record`."""
        ...


@final
@dataclass(frozen=True, slots=True)
class StoreFiles(Generic[M]):
    """The shards of a store as files, and how one is opened."""

    store: Location
    records: tuple[FileRecord, ...]
    opens: Opens[M]
    fix: str
    """What helps where one is damaged, for the message."""


class Shards(Protocol[M_co]):
    """Gives the shards of a store by their numbers."""

    def take(self, numbers: Iterable[int]) -> Mapping[int, M_co]:
        """Return the shards `numbers`, each at least once."""
        ...

    def ahead(self, numbers: Iterable[int]) -> None:
        """Begin to make shards ready that will be needed soon."""
        ...


@final
class LocalShards(Generic[M]):
    """All shards of a store on this machine's disk, mapped when it is opened."""

    def __init__(self, files: StoreFiles[M]) -> None:
        """Map them.

        Raises:
            DataError: naming shards that are missing or damaged.
        """
        self._shards: list[M] = []
        problems: list[Problem] = []
        for record in files.records:
            try:
                self._shards.append(_map_shard(files, record))
            except DataError as error:
                problems.extend(error.problems)
        if problems:
            raise DataError(*problems[:5])

    def take(self, numbers: Iterable[int]) -> dict[int, M]:
        """Return the shards `numbers`."""
        return {number: self._shards[number] for number in numbers}

    def ahead(self, numbers: Iterable[int]) -> None:
        """Do nothing: they are all there."""


@final
class CachedShards(Generic[M]):
    """Shards of a remote store, fetched into the cache of this machine on first use."""

    def __init__(self, files: StoreFiles[M], cache: ShardCache) -> None:
        self._files = files
        self._cache = cache
        # The cache deletes what was used longest ago, and the disk is free again once the last
        # map is gone. So no more may stay mapped than the cache keeps in any case.
        self._most_bytes = 2 * cache.budget // 3
        self._mapped: OrderedDict[int, M] = OrderedDict()
        self._coming: dict[int, Future[M]] = {}
        self._lock = Lock()
        self._threads: ThreadPoolExecutor | None = None

    def take(self, numbers: Iterable[int]) -> dict[int, M]:
        """Return the shards `numbers`, fetching those that are not here, several at once.

        Raises:
            DataError: a shard vanished or changed.
            OSError: one cannot be fetched.
        """
        wanted = list(dict.fromkeys(numbers))
        with self._lock:
            waiting = {n: self._start(n) for n in wanted if n not in self._mapped}
            taken = {n: self._mapped[n] for n in wanted if n in self._mapped}
            for number in taken:
                self._mapped.move_to_end(number)
        for number, coming in waiting.items():
            taken[number] = coming.result()
        with self._lock:
            self._keep({number: taken[number] for number in waiting})
        return taken

    def ahead(self, numbers: Iterable[int]) -> None:
        """Begin to fetch shards; a failure shows when they are taken."""
        with self._lock:
            for number in numbers:
                if number not in self._mapped:
                    self._start(number)

    def _start(self, number: int) -> Future[M]:
        if number not in self._coming:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_FETCHES, thread_name_prefix="rayft-fetch")
            self._coming[number] = self._threads.submit(self._fetch, number)
        return self._coming[number]

    def _fetch(self, number: int) -> M:
        return _map_shard(self._files, self._files.records[number], self._cache)

    def _keep(self, shards: dict[int, M]) -> None:
        for number, shard in shards.items():
            self._coming.pop(number, None)
            self._mapped[number] = shard
        total = sum(shard.num_bytes for shard in self._mapped.values())
        while total > self._most_bytes and len(self._mapped) > 1:
            _, dropped = self._mapped.popitem(last=False)
            total -= dropped.num_bytes


def open_shards(files: StoreFiles[M], cache: ShardCache | None) -> Shards[M]:
    """Return the shards of a store: mapped at once, or fetched through a cache where it is remote.

    Raises:
        DataError: naming shards of a local store that are missing or damaged.
    """
    if files.store.is_local:
        return LocalShards(files)
    return CachedShards(files, needed(cache))


def needed(cache: ShardCache | None) -> ShardCache:
    """Return the cache that a remote store cannot be opened without."""
    assert cache is not None, "a remote store is opened with a cache"
    return cache


def split_rows(
    rows: npt.ArrayLike, *, num_rows: int, rows_per_shard: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the shard of each row [N], and its place there [N].

    Raises:
        IndexError: a row is not in [0, num_rows).
    """
    ids = np.asarray(rows, dtype=np.int64)
    if ids.size and not (ids.min() >= 0 and ids.max() < num_rows):
        raise IndexError(f"row ids must be in [0, {num_rows}); got {ids.min()}..{ids.max()}")
    shards, places = np.divmod(ids, rows_per_shard)
    return shards, places


def verify_files(store: Location, records: Iterable[FileRecord], *, fix: str) -> None:
    """Read every file of a store and compare its hash with the manifest's.

    Args:
        store: its folder.
        records: what the manifest says of its files.
        fix: what helps, for the message.

    Raises:
        DataError: naming every file that is missing or not as it was written.
    """
    damaged = []
    for record in records:
        place = store / record.file
        try:
            if place.sha256() == record.sha256:
                continue
            what = "its SHA-256 differs from the manifest's"
        except FileNotFoundError:
            what = "it is missing"
        damaged.append(Problem(str(place), what, fix))
    if damaged:
        raise DataError(*damaged)


def _map_shard(files: StoreFiles[M], record: FileRecord, cache: ShardCache | None = None) -> M:
    """Map one shard, from the store itself or through a cache.

    Raises:
        DataError: it is missing or damaged.
    """
    opens = partial(files.opens, record=record)
    try:
        if cache is None:
            return opens((files.store / record.file).path)
        return cache.opened(files.store, record, opens)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise cannot_be_opened(files.store, record, error, fix=files.fix) from error


def cannot_be_opened(
    store: Location, record: FileRecord, error: Exception, *, fix: str
) -> DataError:
    """Return the error that says that a file of a store is missing or damaged."""
    return DataError(Problem(str(store / record.file), f"cannot be opened: {error}", fix))
