"""Laws 2, 3, 6 and 9 where rows and checkpoints lie in an object store, or rows lie encoded."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from rayft.data.prepare import PreparedDataset
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store import shards
from rayft.store.cache import ShardCache, cache_folder
from tests.laws.harness import Result, make_spec, make_test_plan, prepare, run_group
from tests.s3 import s3_server

NUM_ROWS = 600


@pytest.fixture(scope="module")
def bucket() -> Iterator[Location]:
    with s3_server() as address:
        yield Location(address)


def spec_for(num_workers: int = 1, *, storage: str = "~/unused", **data: Any) -> RunSpec:
    function = f"{make_spec.__module__}:pictures"
    return make_spec(
        storage_path=storage,
        data={
            "train": {"kind": "python", "function": function, "args": {"num_rows": NUM_ROWS}},
            "validation": {"fraction": 0.2},
            "test": {"fraction": 0.15},
            "image_size": 32,
            **data,
        },
        global_batch_size=64,
        checkpoint={"interval_s": 0, "keep": 2},
        reduction="exact",
        scaling={"num_workers": num_workers, "resources_per_worker": {"CPU": 1}},
    )


def prepared_in(spec: RunSpec, place: Location) -> PreparedDataset:
    """Prepare in shards of about ten rows, so that six hundred rows are many of them."""
    with patch.object(shards, "SHARD_BYTES", 30_000):
        return prepare(spec, place)


def run(spec: RunSpec, prepared: PreparedDataset, place: Path | Location) -> Result:
    result = run_group(spec, prepared, place)
    assert result is not None
    assert not result.error
    return result


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("disk")
    prepared = prepared_in(spec_for(), Location(str(folder)))
    return run(spec_for(), prepared, folder / "checkpoints")


def test_an_object_store_changes_no_bit(on_disk: Result, bucket: Location) -> None:
    spec = spec_for(2, storage=str(bucket))

    result = run(spec, prepared_in(spec, bucket / "same"), bucket / "same-checkpoints")

    assert result.digest == on_disk.digest
    assert result.rows == on_disk.rows


def test_encoded_rows_change_no_bit(on_disk: Result, tmp_path: Path) -> None:
    spec = spec_for(stored_as="encoded")
    prepared = prepared_in(spec, Location(str(tmp_path)))
    assert prepared.facts.stored_as == "encoded"

    assert run(spec, prepared, tmp_path / "checkpoints").digest == on_disk.digest


def test_killed_and_resumed_in_an_object_store_equals_never_killed(
    on_disk: Result, bucket: Location
) -> None:
    spec = spec_for(2, storage=str(bucket))
    prepared = prepared_in(spec, bucket / "same")
    place = bucket / "killed"

    assert run_group(spec, prepared, place, kill_after=4) is None
    resumed = run(spec, prepared, place)

    assert resumed.digest == on_disk.digest
    assert 0 < len(resumed.rows) < len(on_disk.rows)


@pytest.fixture(scope="module")
def windowed(bucket: Location) -> tuple[RunSpec, PreparedDataset]:
    spec = spec_for(storage=str(bucket), local_cache={"budget": "1 MB"})
    return spec, prepared_in(spec, bucket / "windowed")


def test_rows_beyond_the_budget_come_in_windows(
    windowed: tuple[RunSpec, PreparedDataset],
) -> None:
    order = make_test_plan(*windowed).order

    assert order.kind == "windowed"
    assert 1 < order.shards_per_window < order.num_shards / 4
    assert order.fetched_later == order.fetched_at_first > 1_000_000


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_windows_do_not_follow_the_workers_and_stay_within_the_budget(
    windowed: tuple[RunSpec, PreparedDataset],
    bucket: Location,
    tmp_path: Path,
    num_workers: int,
    request: pytest.FixtureRequest,
) -> None:
    spec = spec_for(num_workers, storage=str(bucket), local_cache={"budget": "1 MB"})

    with patch.dict(os.environ, {"RAYFT_CACHE_DIR": str(tmp_path)}):
        result = run(spec, windowed[1], bucket / f"windowed-{num_workers}")
        cache = ShardCache(folder=cache_folder("auto"), budget=1_000_000)

    first = request.config.stash.setdefault(_FIRST, result.digest)
    assert result.digest == first
    per_epoch = len(result.rows) // 3
    for epoch in range(3):
        part = result.rows[epoch * per_epoch : (epoch + 1) * per_epoch]
        rows = [row for _, _, counted in part for row in counted]
        assert len(rows) == len(set(rows)) == windowed[1].facts.num_rows("train")
    assert 0 < cache.used_bytes() <= cache.budget


_FIRST: pytest.StashKey[str] = pytest.StashKey()
