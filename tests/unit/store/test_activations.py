"""The store of activations: any row, by its place, as it was written."""

import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rayft.errors import DataError
from rayft.storage.location import Location
from rayft.store.activation_manifest import ActivationManifest, ActivationType, numpy_type
from rayft.store.activations import ActivationStore, write_activation_shard
from rayft.store.cache import ShardCache
from rayft.store.manifest import MANIFEST_NAME

Rows = npt.NDArray[Any]
Write = Callable[..., Location]


def some_rows(num_rows: int, shape: tuple[int, ...] = (5,), dtype: ActivationType = "fp32") -> Rows:
    values = np.random.default_rng(0).integers(0, 2**16, (num_rows, *shape), np.uint16)
    return values if dtype == "bf16" else values.astype(numpy_type(dtype)) / 7


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows into shards of 7."""

    def make(
        rows: Rows,
        dtype: ActivationType = "fp32",
        *,
        to: Location | None = None,
        per_shard: int = 7,
    ) -> Location:
        place = to or Location(str(tmp_path / "storage/.stores/activations/abc123"))
        starts = range(0, len(rows), per_shard)
        shards = [
            write_activation_shard(place, index, rows[start : start + per_shard])
            for index, start in enumerate(starts)
        ]
        manifest = ActivationManifest(
            key="abc123",
            about={"backbone": "torchvision/resnet18", "cut": "layer3", "view": "0"},
            shape=rows.shape[1:],
            dtype=dtype,
            rows_per_shard=per_shard,
            shards=tuple(shards),
        )
        (place / MANIFEST_NAME).write_bytes(manifest.to_json().encode())
        return place

    return make


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("shape", [(5,), (4, 3, 2)])
@pytest.mark.parametrize("num_rows", [6, 20])
def test_rows_come_back_bit_for_bit_in_the_order_asked_for(
    write: Write, dtype: ActivationType, shape: tuple[int, ...], num_rows: int
) -> None:
    rows = some_rows(num_rows, shape, dtype)
    store = ActivationStore.open(write(rows, dtype))
    places = np.array([num_rows - 1, 0, 3, 3, 5])

    found = store.gather(places)

    assert (store.num_rows, store.shape) == (num_rows, shape)
    assert found.dtype == numpy_type(dtype)
    assert found.shape == (5, *shape)
    assert found.tobytes() == rows[places].tobytes()


@pytest.mark.parametrize("num_rows", [6, 20])
def test_gathered_rows_are_the_callers_own(write: Write, num_rows: int) -> None:
    rows = some_rows(num_rows)
    store = ActivationStore.open(write(rows))

    store.gather([3, 4])[:] = -1

    assert np.array_equal(store.gather([3, 4]), rows[[3, 4]])


def test_no_places_are_an_empty_batch(write: Write) -> None:
    found = ActivationStore.open(write(some_rows(3, (2, 2), "fp16"), "fp16")).gather([])

    assert (found.shape, found.dtype) == ((0, 2, 2), np.float16)


@pytest.mark.parametrize("place", [-1, 20])
def test_a_place_outside_the_store_is_refused(write: Write, place: int) -> None:
    with pytest.raises(IndexError, match=r"\[0, 20\)"):
        ActivationStore.open(write(some_rows(20))).gather([place])


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    rows = some_rows(20, (4, 3))
    folders = [Location(str(tmp_path / name)) for name in "ab"]

    # A transposed twin has other strides, and the same rows.
    first, second = (
        write_activation_shard(folder, 3, given)
        for folder, given in zip(folders, (rows, np.asfortranarray(rows)), strict=True)
    )

    assert first == second
    assert first.file == "shard-00003.arrow"
    assert first.sha256 == (folders[1] / first.file).sha256()


def test_a_store_travels_as_its_place(write: Write) -> None:
    store = ActivationStore.open(write(some_rows(20)))

    message = pickle.dumps(store)

    assert len(message) < 1000
    assert np.array_equal(pickle.loads(message).gather([5]), store.gather([5]))


def test_a_remote_store_gives_the_same_rows_and_fetches_what_is_used(
    write: Write, bucket: Location, tmp_path: Path
) -> None:
    rows = some_rows(20, (4, 3))
    cache = ShardCache(folder=tmp_path / "cache", budget=10**9)
    place = write(rows, to=bucket / "features/.stores/activations/abc123")
    store = ActivationStore.open(place, cache)

    found = store.gather([19, 0, 15])

    assert np.array_equal(found, rows[[19, 0, 15]])
    here = [cache.path_of(record).exists() for record in store.manifest.shards]
    assert here == [True, False, True]
    assert np.array_equal(pickle.loads(pickle.dumps(store)).gather([8]), rows[[8]])
    store.verify()
    (place / "shard-00001.arrow").delete()
    with pytest.raises(DataError, match="it is missing"):
        ActivationStore.open(place, cache)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage", "other"])
def test_a_damaged_shard_is_noticed_when_the_store_is_opened(write: Write, damage: str) -> None:
    place = write(some_rows(20))
    path = place.path / "shard-00001.arrow"
    content = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "garbage":
            path.write_bytes(b"x" * len(content))
        case "other":
            write_activation_shard(place, 1, some_rows(14, (2,))[:7].repeat(2, axis=1)[:, :3])
            path.write_bytes(path.read_bytes().ljust(len(content), b"\0"))
        case _:
            path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")

    with pytest.raises(DataError, match=r"shard-00001\.arrow") as caught:
        ActivationStore.open(place)

    storage = place.path.parents[2]
    assert f"rayft cache rm {storage} abc123" in caught.value.problems[0].fix


def test_verify_finds_what_a_look_does_not(write: Write) -> None:
    store = ActivationStore.open(write(some_rows(20)))
    store.verify()
    for number in (0, 2):
        path = store.place.path / f"shard-{number:05d}.arrow"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    ActivationStore.open(store.place)

    with pytest.raises(DataError) as caught:
        store.verify()

    names = [Path(problem.where).name for problem in caught.value.problems]
    assert names == ["shard-00000.arrow", "shard-00002.arrow"]


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 99},
        {"key": "../../else"},
        {"dtype": "fp8"},
        {"shape": ["wide"]},
        {"about": 3},
        {"shards": [{"file": "../x", "sha256": "0" * 64, "rows": 1, "bytes": 1}]},
        {"extra": 1},
        None,
    ],
)
def test_a_damaged_manifest_is_refused(write: Write, change: dict[str, Any] | None) -> None:
    path = write(some_rows(20)).path / MANIFEST_NAME
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | change) if change else "")

    with pytest.raises(DataError, match="is no manifest"):
        ActivationStore.open(Location(str(path.parent)))


def test_a_batch_of_features_is_gathered_in_well_under_a_millisecond(write: Write) -> None:
    store = ActivationStore.open(write(some_rows(3000, (1280,)), per_shard=500))
    drawn = np.random.default_rng(0)
    seconds = []
    for _ in range(50):
        places = drawn.integers(0, 3000, 256)
        begun = time.perf_counter()
        store.gather(places)
        seconds.append(time.perf_counter() - begun)

    # About 0.2 ms; other processes may take the machine for most of these.
    assert min(seconds) < 0.002
