"""Law 6 for kept rows beside other parts of a run: averages, test time, folds, object stores."""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from rayft.data.prepare import PreparedDataset
from rayft.storage.location import Location
from rayft.store.activations import ActivationStore
from rayft.store.cache import ShardCache, cache_folder
from tests.laws.harness import keep, prepare
from tests.laws.test_prefix import FLIPS, HEADS, WRITTEN, run, same, spec_of
from tests.s3 import s3_server


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": {"decay": 0.9}},
        {"ema": {"decay": 0.9}, "augment": FLIPS},
        {"test_time": {"horizontal_flip": True, "shift": 1}},
        {"batch_norm": "local"},
    ],
)
def test_kept_rows_change_no_bit_beside_other_settings(
    prepared: PreparedDataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    spec = spec_of(**changes)

    with keep(spec, prepared, tmp_path) as kept:
        assert set(kept.phases) == {0, 1}
        cached = run(spec, prepared, tmp_path / "cached", kept=kept)

    # Several views of each image are made of the image itself.
    kept_for = {split for splits in kept.phases.values() for split in splits}
    assert kept_for == ({"train"} if "test_time" in changes else {"train", "validation", "test"})
    same(cached, run(spec, prepared, tmp_path / "made"))


def fold(number: int) -> dict[str, Any]:
    data = {**WRITTEN["data"], "validation": {"folds": 3, "fold": number}}
    return {"data": data, "phases": [HEADS]}


def test_what_is_kept_for_one_fold_is_there_for_all(tmp_path: Path) -> None:
    first, second = spec_of(**fold(0)), spec_of(**fold(1))
    rows = prepare(first, tmp_path / "rows")
    others = prepare(second, tmp_path / "rows")

    with keep(first, rows, tmp_path) as kept:
        assert kept.rows_made > 0
    with keep(second, others, tmp_path) as again:
        cached = run(second, others, tmp_path / "cached", kept=again)

    assert again.rows_made == 0
    assert again.phases == kept.phases
    same(cached, run(second, others, tmp_path / "made"))


def test_random_views_are_kept_of_the_training_rows_of_a_fold_alone(tmp_path: Path) -> None:
    first, second = (spec_of(**fold(number), augment=FLIPS) for number in (0, 1))
    rows, others = (prepare(spec, tmp_path / "rows") for spec in (first, second))

    with keep(first, rows, tmp_path) as kept:
        places = kept.phases[0]
        sizes = {ActivationStore.open(Location(place)).num_rows for place in places["train"]}
    with keep(second, others, tmp_path) as again:
        pass

    assert sizes == {rows.facts.num_rows("train")}
    assert not set(again.phases[0]["train"]) & set(places["train"])


def test_an_object_store_changes_no_bit_of_what_is_kept(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    on_disk = spec_of(augment=FLIPS)
    with keep(on_disk, prepared, tmp_path) as kept:
        expected = run(on_disk, prepared, tmp_path / "expected", kept=kept)

    with s3_server() as address, patch.dict(os.environ, {"RAYFT_CACHE_DIR": str(tmp_path / "c")}):
        bucket = Location(address)
        spec = spec_of(augment=FLIPS, storage_path=address)
        with keep(spec, prepared, bucket) as there:
            found = run(spec, prepared, bucket / "checkpoints", kept=there)
            cached = ShardCache(folder=cache_folder("auto"), budget=10**9).used_bytes()
        with keep(spec, prepared, bucket) as again:
            pass

    same(found, expected)
    assert there.rows_made == kept.rows_made > 0
    assert again.rows_made == 0
    assert cached > 0
