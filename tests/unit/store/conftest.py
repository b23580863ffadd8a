from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rayft.store.manifest import MANIFEST_NAME, Manifest, QuarantinedRow
from rayft.store.rows import RowStore
from rayft.store.shards import ShardColumns, write_shard
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
    ) -> RowStore:
        folder = tmp_path / name
        folder.mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (num_rows, SIZE, SIZE, 3), np.uint8)
        pixels[list(bad)] = 0
        hashes = np.array([row_hash(f"{row}".encode()) for row in range(num_rows)], np.uint64)
        valid = ~np.isin(np.arange(num_rows), bad)
        shards = []
        for index, start in enumerate(range(0, num_rows, ROWS_PER_SHARD)):
            part = slice(start, min(start + ROWS_PER_SHARD, num_rows))
            ids = range(num_rows)[part]
            columns = ShardColumns(
                image=pixels[part],
                label=np.array([row % len(classes) for row in ids], np.int32),
                content_hash=hashes[part],
                group_hash=hashes[part],
                valid=valid[part],
                source=[f"{row}.jpg" for row in ids],
            )
            shards.append(write_shard(folder, index, columns))
        manifest = Manifest(
            key=f"key of {name}",
            stored_size=SIZE,
            rows_per_shard=ROWS_PER_SHARD,
            classes=classes,
            shards=tuple(shards),
            quarantined=tuple(
                QuarantinedRow(row=row, source=f"{row}.jpg", reason="it is bad") for row in bad
            ),
        )
        (folder / MANIFEST_NAME).write_text(manifest.to_json())
        return RowStore.open(folder)

    return make
