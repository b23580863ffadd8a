"""The shards of an opened store: mapped at once from a local disk, or fetched as they are used."""

from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Protocol, final

import pyarrow as pa

from rayft.errors import DataError, Problem
from rayft.storage.location import Location
from rayft.store.cache import ShardCache
from rayft.store.manifest import FileRecord, Manifest
from rayft.store.shards import MappedShard

_FETCHES = 8
"""Shards fetched at the same time: one stream rarely fills the line to an object store."""


class Shards(Protocol):
    """Gives the shards of a store by their numbers."""

    def take(self, numbers: Iterable[int]) -> dict[int, MappedShard]:
        """Return the shards `numbers`, each at least once."""
        ...

    def ahead(self, numbers: Iterable[int]) -> None:
        """Begin to make shards ready that will be needed soon."""
        ...


@final
class LocalShards:
    """All shards of a store on this machine's disk, mapped when it is opened."""

    def __init__(self, store: Location, manifest: Manifest) -> None:
        """Map them.

        Raises:
            DataError: naming shards that are missing or damaged.
        """
        self._shards: list[MappedShard] = []
        problems: list[Problem] = []
        for record in manifest.shards:
            try:
                self._shards.append(map_shard(store, manifest, record))
            except DataError as error:
                problems.extend(error.problems)
        if problems:
            raise DataError(*problems[:5])

    def take(self, numbers: Iterable[int]) -> dict[int, MappedShard]:
        """Return the shards `numbers`."""
        return {number: self._shards[number] for number in numbers}

    def ahead(self, numbers: Iterable[int]) -> None:
        """Do nothing: they are all there."""


@final
class CachedShards:
    """Shards of a remote store, fetched into the cache of this machine on first use."""

    def __init__(self, store: Location, manifest: Manifest, cache: ShardCache) -> None:
        self._store = store
        self._manifest = manifest
        self._cache = cache
        # The cache deletes what was used longest ago, and the disk is free again once the last
        # map is gone. So no more may stay mapped than the cache keeps in any case.
        self._most_bytes = 2 * cache.budget // 3
        self._mapped: OrderedDict[int, MappedShard] = OrderedDict()
        self._coming: dict[int, Future[MappedShard]] = {}
        self._lock = Lock()
        self._threads: ThreadPoolExecutor | None = None

    def take(self, numbers: Iterable[int]) -> dict[int, MappedShard]:
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

    def _start(self, number: int) -> Future[MappedShard]:
        if number not in self._coming:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_FETCHES, thread_name_prefix="rayft-fetch")
            self._coming[number] = self._threads.submit(self._fetch, number)
        return self._coming[number]

    def _fetch(self, number: int) -> MappedShard:
        return map_shard(self._store, self._manifest, self._manifest.shards[number], self._cache)

    def _keep(self, shards: dict[int, MappedShard]) -> None:
        for number, shard in shards.items():
            self._coming.pop(number, None)
            self._mapped[number] = shard
        total = sum(shard.num_bytes for shard in self._mapped.values())
        while total > self._most_bytes and len(self._mapped) > 1:
            _, dropped = self._mapped.popitem(last=False)
            total -= dropped.num_bytes


def map_shard(
    store: Location, manifest: Manifest, record: FileRecord, cache: ShardCache | None = None
) -> MappedShard:
    """Map one shard, from the store itself or through a cache.

    Raises:
        DataError: it is missing or damaged.
    """
    opens = partial(
        MappedShard, record=record, stored_as=manifest.stored_as, size=manifest.stored_size
    )
    try:
        if cache is None:
            return opens((store / record.file).path)
        return cache.opened(store, record, opens)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise cannot_be_opened(store, record, error) from error


def cannot_be_opened(store: Location, record: FileRecord, error: Exception) -> DataError:
    """Return the error that says that a file of a store is missing or damaged."""
    fix = f"delete {store} and run `rayft prepare` again"
    return DataError(Problem(str(store / record.file), f"cannot be opened: {error}", fix))
