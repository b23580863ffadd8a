import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from rayft.errors import DataError
from rayft.storage.location import Location
from rayft.store.manifest import MANIFEST_NAME
from rayft.store.rows import RowStore
from rayft.store.shards import MAX_ROWS_PER_SHARD, SHARD_BYTES, rows_per_shard

MakeStore = Callable[..., RowStore]


def _written_pixels(num_rows: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (num_rows, 4, 4, 3), np.uint8)


def test_gather_gives_the_written_rows_in_the_order_asked_for(make_store: MakeStore) -> None:
    store = make_store(20)
    row_ids = np.array([19, 0, 7, 6, 7, 13])

    images = store.gather(row_ids)

    assert images.dtype == np.uint8
    assert np.array_equal(images, _written_pixels(20)[row_ids])


def test_gather_of_no_rows_is_an_empty_batch(make_store: MakeStore) -> None:
    assert make_store(3).gather([]).shape == (0, 4, 4, 3)


@pytest.mark.parametrize("row_id", [-1, 20])
def test_an_id_outside_the_store_is_refused(make_store: MakeStore, row_id: int) -> None:
    with pytest.raises(IndexError, match=r"\[0, 20\)"):
        make_store(20).gather([row_id])


def test_a_gathered_batch_is_the_callers_own(make_store: MakeStore) -> None:
    store = make_store(20)

    store.gather([3, 4])[:] = 0

    assert np.array_equal(store.gather([3, 4]), _written_pixels(20)[[3, 4]])


def test_a_bad_row_keeps_its_slot_and_moves_no_other(make_store: MakeStore) -> None:
    store = make_store(20, bad=(2,))

    assert store.num_rows == 20
    assert np.flatnonzero(~store.valid).tolist() == [2]
    assert not store.gather([2]).any()
    assert np.array_equal(store.gather([3]), _written_pixels(20)[[3]])
    assert store.manifest.quarantined[0].reason == "it is bad"


def test_a_row_knows_its_source_and_label(make_store: MakeStore) -> None:
    store = make_store(20)

    assert store.source_of(13) == "13.jpg"
    assert store.labels[13] == 13 % 3


def test_the_columns_cannot_be_written_to(make_store: MakeStore) -> None:
    store = make_store(20)

    for column in (store.labels, store.valid, store.content_hashes, store.group_hashes):
        assert not column.flags.writeable


def test_a_store_travels_as_its_path(make_store: MakeStore) -> None:
    store = make_store(20)

    message = pickle.dumps(store)

    assert len(message) < 1000
    assert np.array_equal(pickle.loads(message).gather([5]), store.gather([5]))


def test_an_open_store_holds_no_file_open(make_store: MakeStore) -> None:
    store = make_store(70)

    # The descriptor that lists the folder is gone by the time its link would be read.
    links = [link for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link)]
    assert not any(str(store.place) in str(link.readlink()) for link in links)


def test_verify_names_every_shard_that_changed(make_store: MakeStore) -> None:
    store = make_store(20)
    store.verify()
    path = store.place.path / "shard-00001.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataError) as caught:
        store.verify()

    assert [problem.where for problem in caught.value.problems] == [str(path)]


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
def test_a_damaged_shard_is_refused_with_its_name(make_store: MakeStore, damage: str) -> None:
    path = make_store(20).place.path / "shard-00002.arrow"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else b"x" * 4000)

    with pytest.raises(DataError, match=r"shard-00002\.arrow: cannot be opened"):
        RowStore.open(Location(str(path.parent)))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format_version": 99}', '{"format_version": 1}', None]
)
def test_a_damaged_manifest_is_refused(make_store: MakeStore, text: str | None) -> None:
    path = make_store(20).place.path / MANIFEST_NAME
    if text is None:
        path.unlink()
    else:
        path.write_text(text)

    with pytest.raises(DataError, match="rayft prepare"):
        RowStore.open(Location(str(path.parent)))


def test_a_manifest_cannot_point_out_of_its_folder(make_store: MakeStore) -> None:
    path = make_store(20).place.path / MANIFEST_NAME
    fields = json.loads(path.read_text())
    fields["shards"][0]["file"] = "../store/shard-00000.arrow"
    path.write_text(json.dumps(fields))

    with pytest.raises(DataError, match="outside the store"):
        RowStore.open(Location(str(path.parent)))


@pytest.mark.parametrize("row_bytes", [0, 3.5, 8 * 8 * 3, 224 * 224 * 3, 4096 * 4096 * 3])
def test_a_shard_is_at_most_its_size_and_never_empty(row_bytes: float) -> None:
    rows = rows_per_shard(row_bytes)

    assert 1 <= rows <= MAX_ROWS_PER_SHARD
    assert rows == 1 or rows * row_bytes <= SHARD_BYTES


def test_an_encoded_store_gives_each_file_as_it_came(make_store: MakeStore) -> None:
    store = make_store(20, encoded=True)

    files = store.gather_files([19, 0, 7, 7, 14])

    assert [bytes(file) for file in files] == [
        b"file 19",
        b"",
        b"file 7",
        b"file 7",
        b"file 14" * 2,
    ]


@pytest.mark.parametrize("damage", ["missing", "garbage", "short"])
def test_a_damaged_index_is_refused_with_its_name(make_store: MakeStore, damage: str) -> None:
    store = make_store(20)
    path = store.place.path / "rows.arrow"
    match damage:
        case "missing":
            path.unlink()
        case "garbage":
            path.write_bytes(b"x" * 4000)
        case _:
            short = make_store(7, name="short")
            path.write_bytes((short.place.path / "rows.arrow").read_bytes())

    with pytest.raises(DataError, match=r"rows\.arrow: cannot be opened"):
        RowStore.open(store.place)


def test_a_store_from_before_there_were_other_channels_is_one_of_rgb(
    make_store: MakeStore,
) -> None:
    store = make_store(3)
    file = (store.place / MANIFEST_NAME).path
    fields = json.loads(file.read_text())
    assert fields.pop("channels") == 3
    file.write_text(json.dumps(fields))

    opened = RowStore.open(store.place)

    assert opened.manifest.channels == 3
    assert np.array_equal(opened.gather([2, 0]), store.gather([2, 0]))
