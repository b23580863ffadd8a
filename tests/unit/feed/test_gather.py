"""A stored file that was damaged on the disk is told by its store, and not as a stack of calls."""

from pathlib import Path

import numpy as np
import pytest

from rayft.errors import DataError
from rayft.feed.gather import gather_images
from rayft.store.dataset import open_dataset
from tests.laws.harness import make_spec, prepare

WRITTEN = make_spec().model_dump(mode="json", by_alias=True)


def test_a_damaged_file_names_its_store(tmp_path: Path) -> None:
    spec = make_spec(data={**WRITTEN["data"], "stored_as": "encoded"})
    store = open_dataset(prepare(spec, tmp_path).ref).splits["train"].store
    (shard,) = store.place.path.glob("shard-*")
    content = bytearray(shard.read_bytes())
    start = content.index(b"\x89PNG")
    content[start : start + 8] = bytes(8)
    shard.write_bytes(content)

    with pytest.raises(DataError) as caught:
        gather_images(store, np.arange(store.num_rows), threads=1)

    (problem,) = caught.value.problems
    assert problem.where == str(store.place)
    assert "image 0 of the batch is damaged" in problem.what
    assert "rayft prepare" in problem.fix
