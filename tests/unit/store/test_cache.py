import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rayft.errors import DataError
from rayft.storage.location import Location
from rayft.store.cache import ShardCache, cache_folder
from rayft.store.rows import RowStore

MakeStore = Callable[..., RowStore]


def _size(store: RowStore) -> int:
    return max(shard.bytes for shard in store.manifest.shards)


def _cached(store: RowStore, cache: ShardCache) -> set[int]:
    shards = store.manifest.shards
    return {n for n, shard in enumerate(shards) if cache.path_of(shard).exists()}


def test_a_remote_store_gives_the_rows_of_a_local_one(
    make_store: MakeStore, bucket: Location, tmp_path: Path
) -> None:
    local = make_store(40)
    cache = ShardCache(folder=tmp_path / "cache", budget=10**9)
    remote = make_store(40, place=bucket / "alike", cache=cache)
    ids = np.array([39, 0, 7, 6, 7, 13])

    assert np.array_equal(remote.gather(ids), local.gather(ids))
    assert np.array_equal(remote.labels, local.labels)
    assert remote.source_of(13) == "13.jpg"
    remote.verify()


def test_only_shards_that_are_used_are_fetched(
    make_store: MakeStore, bucket: Location, tmp_path: Path
) -> None:
    cache = ShardCache(folder=tmp_path / "cache", budget=10**9)
    store = make_store(70, place=bucket / "used", cache=cache)

    assert _cached(store, cache) == set()
    store.gather([8, 50])

    assert _cached(store, cache) == {1, 7}


def test_what_was_used_longest_ago_makes_room(
    make_store: MakeStore, bucket: Location, tmp_path: Path
) -> None:
    probe = ShardCache(folder=tmp_path / "probe", budget=10**9)
    store = make_store(70, place=bucket / "room", cache=probe)
    index, shard = store.manifest.index.bytes, _size(store)
    cache = ShardCache(folder=tmp_path / "cache", budget=index + 3 * shard)
    store = RowStore.open(store.place, cache)

    for number, now in ((0, 1), (1, 2), (2, 3), (0, 4), (3, 5)):
        store.gather([7 * number])
        # Times of files are too coarse to order uses that follow at once.
        os.utime(cache.path_of(store.manifest.shards[number]), (now, now))
        if number == 0:
            os.utime(cache.path_of(store.manifest.index), (9, 9))

    assert cache.used_bytes() <= cache.budget
    assert 1 not in _cached(store, cache)


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_shard_that_is_not_as_the_manifest_says_is_refused(
    make_store: MakeStore, bucket: Location, tmp_path: Path, damage: str
) -> None:
    cache = ShardCache(folder=tmp_path / "cache", budget=10**9)
    store = make_store(20, place=bucket / damage, cache=cache)
    shard = store.place / "shard-00001.arrow"
    if damage == "gone":
        shard.delete()
    else:
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(bytes(content))

    with pytest.raises(DataError, match=r"shard-00001\.arrow: .*(SHA-256 differs|no longer there)"):
        store.gather([8])

    assert not list((tmp_path / "cache" / "files").glob("*.part"))
    assert len(store.gather([0])) == 1


def test_readers_at_once_fetch_a_shard_once(
    make_store: MakeStore, bucket: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ShardCache(folder=tmp_path / "cache", budget=10**9)
    first = make_store(70, place=bucket / "once", cache=cache)
    fetched: list[str] = []
    download = Location.download

    def counted(place: Location, to: Path) -> None:
        fetched.append(place.name)
        download(place, to)

    monkeypatch.setattr(Location, "download", counted)
    stores = [first, *(RowStore.open(first.place, cache) for _ in range(3))]
    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(lambda store: store.gather(range(70)), stores))

    assert sorted(fetched) == [f"shard-{number:05d}.arrow" for number in range(10)]
    assert all(np.array_equal(found, rows[0]) for found in rows)


def test_shards_are_fetched_ahead(make_store: MakeStore, bucket: Location, tmp_path: Path) -> None:
    cache = ShardCache(folder=tmp_path / "cache", budget=10**9)
    store = make_store(70, place=bucket / "ahead", cache=cache)

    store.fetch_ahead([4, 5])
    store.gather([4 * 7])
    store.gather([5 * 7])

    assert _cached(store, cache) == {4, 5}


def test_a_budget_below_one_file_is_refused(
    make_store: MakeStore, bucket: Location, tmp_path: Path
) -> None:
    cache = ShardCache(folder=tmp_path / "cache", budget=100)

    with pytest.raises(DataError, match=r"data\.local_cache\.budget"):
        make_store(20, place=bucket / "small", cache=cache)


def test_the_folder_may_differ_between_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFT_CACHE_DIR", "/fast/disk")
    assert cache_folder("auto") == Path("/fast/disk")

    monkeypatch.delenv("RAYFT_CACHE_DIR")
    assert cache_folder("auto") == Path.home() / ".cache/rayft"
    assert cache_folder("/other") == Path("/other")


def test_many_readers_of_a_small_cache_stay_within_its_budget(
    make_store: MakeStore, bucket: Location, tmp_path: Path
) -> None:
    roomy = ShardCache(folder=tmp_path / "roomy", budget=10**9)
    first = make_store(140, place=bucket / "crowd", cache=roomy)
    rows = first.gather(range(140))
    cache = ShardCache(
        folder=tmp_path / "cache", budget=first.manifest.index.bytes + 3 * _size(first)
    )
    done, most = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], cache.used_bytes())

    def read(seed: int) -> bool:
        store = RowStore.open(first.place, cache)
        drawn = np.random.default_rng(seed)
        for _ in range(15):
            ids = drawn.integers(0, 140, 4)
            if not np.array_equal(store.gather(ids), rows[ids]):
                return False
        return True

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(read, range(4)))
    finally:
        done.set()
        watcher.join()
    assert 0 < most[0] <= cache.budget
