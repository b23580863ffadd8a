from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rayft.storage.location import Location
from rayft.store.index import RowColumns, write_index
from rayft.store.manifest import MANIFEST_NAME, Manifest, QuarantinedRow
from rayft.store.rows import RowStore
from rayft.store.shards import write_shard
from rayft.store.splits import row_hash

SIZE = 4
ROWS_PER_SHARD = 7

MakeStore = Callable[..., RowStore]


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Write a store of random rows, small enough to have several shards of 7 rows."""

    def make(
        num_rows: int = 20,
        *,
        name: str = "store",
        classes: tuple[str, ...] = ("bird", "cat", "dog"),
        bad: tuple[int, ...] = (),
        encoded: bool = False,
        place: Location | None = None,
        cache: object = None,
    ) -> RowStore:
        folder = place or Location(str(tmp_path / name))
        pixels = np.random.default_rng(0).integers(0, 256, (num_rows, SIZE, SIZE, 3), np.uint8)
        pixels[list(bad)] = 0
        hashes = np.array([row_hash(f"{row}".encode()) for row in range(num_rows)], np.uint64)
        valid = ~np.isin(np.arange(num_rows), bad)
        shards, columns = [], []
        for index, start in enumerate(range(0, num_rows, ROWS_PER_SHARD)):
            part = slice(start, min(start + ROWS_PER_SHARD, num_rows))
            ids = range(num_rows)[part]
            images = (
                [f"file {row}".encode() * (row % 3) for row in ids] if encoded else pixels[part]
            )
            shards.append(write_shard(folder, index, images))
            columns.append(
                RowColumns(
                    label=np.array([row % len(classes) for row in ids], np.int32),
                    content_hash=hashes[part],
                    group_hash=hashes[part],
                    valid=valid[part],
                    source=[f"{row}.jpg" for row in ids],
                ).to_bytes()
            )
        manifest = Manifest(
            key=f"key of {name}",
            stored_as="encoded" if encoded else "decoded",
            stored_size=SIZE,
            resize="crop",
            rows_per_shard=ROWS_PER_SHARD,
            classes=classes,
            index=write_index(folder, columns),
            shards=tuple(shards),
            quarantined=tuple(
                QuarantinedRow(row=row, source=f"{row}.jpg", reason="it is bad") for row in bad
            ),
        )
        (folder / MANIFEST_NAME).write_bytes(manifest.to_json().encode())
        return RowStore.open(folder, cache)  # type: ignore[arg-type]

    return make
