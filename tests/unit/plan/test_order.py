from dataclasses import replace
from typing import Any

import pytest

from rayft.errors import SpecError
from rayft.plan.facts import DataFacts
from rayft.plan.order import OrderPlan, plan_order
from rayft.plan.storage import stored_as
from rayft.spec.data import DataSpec
from rayft.spec.size import parse_size
from tests.unit.plan.conftest import data, spec

PHOTOS = {"train": {"kind": "folder", "path": "photos"}}
GB = 10**9


def facts(stored: int = 10 * GB, num_shards: int = 100) -> DataFacts:
    return replace(data(), stored_bytes=stored, train_bytes=stored, num_shards=num_shards)


def order(storage: str, facts: DataFacts, **fields: Any) -> OrderPlan:
    return plan_order(spec(storage_path=storage, data={**PHOTOS, **fields}), facts)


def test_rows_on_a_disk_are_mixed_all_together_and_nothing_is_fetched() -> None:
    found = order("/runs", facts(10_000 * GB))

    assert (found.kind, found.shards_per_window) == ("permutation", 100)
    assert (found.fetched_at_first, found.fetched_later) == (0, 0)


def test_rows_that_fit_into_the_cache_are_fetched_once() -> None:
    found = order("s3://bucket/runs", facts(10 * GB), local_cache={"budget": "10 GB"})

    assert found.kind == "permutation"
    assert (found.fetched_at_first, found.fetched_later) == (10 * GB, 0)


def test_rows_beyond_the_cache_come_in_windows_of_a_third_of_it() -> None:
    found = order("gs://bucket/runs", facts(10 * GB), local_cache={"budget": "3 GB"})

    # A shard has 0.1 GB.
    assert (found.kind, found.shards_per_window) == ("windowed", 10)
    assert (found.fetched_at_first, found.fetched_later) == (10 * GB, 10 * GB)
    assert "10.00 GB of rows exceed 3.00 GB" in found.reason


def test_windows_can_be_asked_for_and_refused() -> None:
    asked = order("/runs", facts(), order="windowed", local_cache={"budget": "3 GB"})
    refused = order(
        "s3://bucket/runs", facts(), order="permutation", local_cache={"budget": "3 GB"}
    )

    assert (asked.kind, asked.shards_per_window, asked.fetched_later) == ("windowed", 10, 0)
    assert (refused.kind, refused.fetched_later) == ("permutation", 10 * GB)


def test_a_cache_that_cannot_hold_three_shards_is_refused() -> None:
    with pytest.raises(SpecError, match="set it to 300 MB or more"):
        order("s3://bucket/runs", facts(), local_cache={"budget": "299 MB"})


@pytest.mark.parametrize(
    ("wanted", "num_rows", "expected"),
    [
        ("auto", 100_000, "encoded"),
        ("auto", 80_000, "decoded"),
        ("decoded", 10**9, "decoded"),
        ("encoded", 1, "encoded"),
    ],
)
def test_large_sources_are_stored_as_files(wanted: str, num_rows: int, expected: str) -> None:
    section = DataSpec.model_validate({**PHOTOS, "stored_as": wanted})

    # 16 GiB are 87,381 rows of 256 pixels.
    assert stored_as(section, num_rows=num_rows, stored_size=256) == expected


@pytest.mark.parametrize(
    ("text", "size"), [("500 MB", 5 * 10**8), ("1.5TB", 15 * 10**11), (" 50 GB ", 5 * 10**10)]
)
def test_sizes_are_in_decimal_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "5", "5 GiB", "-1 GB", "0 MB", "1e3 GB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_size(text)
