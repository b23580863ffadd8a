"""Large parquet files: bounded memory, and no row group read over and over."""

import random
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayft.data import parquet_rows, parquet_source
from rayft.data.fingerprint import digest_files
from rayft.data.labels import LabelCoder
from rayft.data.listing import Listing
from rayft.data.sources import list_source
from rayft.errors import DataError
from rayft.spec.sources import ParquetSource
from rayft.storage.location import Location

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(
        name: str = "a.parquet", *, rows: int = 100, first: int = 0, group: int = 10**6
    ) -> Path:
        image = [f"image {first + row}".encode() for row in range(rows)]
        table = pa.table({"image": image, "label": [str(row % 7) for row in range(rows)]})
        pq.write_table(table, tmp_path / name, row_group_size=group)
        return tmp_path / name

    return write


def _list(path: Path, **fields: str) -> Listing:
    return list_source(ParquetSource(kind="parquet", path=str(path), **fields), base_dir=path)


def _expected(start: int, stop: int) -> list[bytes]:
    return [f"image {row}".encode() for row in range(start, stop)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened for their images."""
    found: list[str] = []
    open_parquet = parquet_rows.open_parquet

    def call(place: Location, *args: object, **options: bool) -> object:
        found.append(place.name)
        return open_parquet(place, *args, **options)

    monkeypatch.setattr(parquet_rows, "open_parquet", call)
    return found


class TestRowGroups:
    @pytest.mark.parametrize("group", [7, 50, 1000])
    def test_shards_in_order_read_a_file_once(
        self, write: Write, opened: list[str], group: int
    ) -> None:
        reader = _list(write(rows=100, group=group)).reader

        for start in range(0, 100, 9):
            assert list(reader.cut(start, start + 9).read()) == _expected(
                start, min(100, start + 9)
            )

        assert opened == ["a.parquet"]

    def test_shards_in_any_order_give_their_own_rows(self, write: Write) -> None:
        reader = _list(write(rows=100, group=30)).reader
        starts = list(range(0, 100, 7))
        random.Random(0).shuffle(starts)

        for start in starts:
            assert list(reader.cut(start, start + 7).read()) == _expected(
                start, min(100, start + 7)
            )

    def test_rows_passed_over_are_not_read_again(self, write: Write, opened: list[str]) -> None:
        reader = _list(write(rows=100)).reader

        for start in (10, 40, 70):
            assert list(reader.cut(start, start + 5).read()) == _expected(start, start + 5)

        assert len(opened) == 1

    def test_a_file_written_anew_is_not_taken_for_the_one_before(self, write: Write) -> None:
        reader = _list(write(rows=20)).reader
        assert list(reader.cut(0, 5).read()) == _expected(0, 5)

        write(rows=20, first=100)

        assert list(reader.cut(5, 10).read()) == _expected(105, 110)

    def test_a_reader_left_half_way_does_not_mislead_the_next(self, write: Write) -> None:
        reader = _list(write(rows=20)).reader
        rows = reader.cut(0, 15).read()
        next(rows)
        rows.close()  # type: ignore[attr-defined]

        assert list(reader.cut(3, 9).read()) == _expected(3, 9)

    def test_threads_do_not_disturb_each_other(self, write: Write) -> None:
        reader = _list(write(rows=400, group=100)).reader

        with ThreadPoolExecutor(4) as threads:
            parts = threads.map(lambda s: list(reader.cut(s, s + 20).read()), range(0, 400, 20))

        assert [row for part in parts for row in part] == _expected(0, 400)

    def test_one_large_row_group_is_decoded_piece_by_piece(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generator = np.random.default_rng(0)
        image = [generator.bytes(200_000) for _ in range(300)]
        table = pa.table({"image": image, "label": ["a"] * 300})
        pq.write_table(table, tmp_path / "a.parquet", write_batch_size=1, use_dictionary=["label"])
        del table
        reader = _list(tmp_path / "a.parquet").reader
        monkeypatch.setattr(parquet_rows, "BYTES_PER_READ", 2**20)
        before, most = pa.total_allocated_bytes(), 0

        for row, content in enumerate(reader.read()):
            assert content == image[row]
            most = max(most, pa.total_allocated_bytes() - before)

        assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 1
        assert most < 20_000_000

    def test_nothing_stays_open_behind_the_last_row(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[bool] = []
        close = parquet_rows._Column.close
        monkeypatch.setattr(
            parquet_rows._Column, "close", lambda self: (closed.append(True), close(self))
        )

        list(_list(write(rows=20)).reader.read())

        assert closed == [True]


class TestLabels:
    def test_they_are_not_held_as_text(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parquet_source, "ROWS_PER_SCAN", 1000)
        rows = 100_000
        labels = [f"class {row % 10} of a long name" for row in range(rows)]
        who = [f"person {row % 500}" for row in range(rows)]
        table = pa.table({"image": [b""] * rows, "label": labels, "who": who})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=10_000)
        del labels, who, table
        source = ParquetSource(kind="parquet", path="a.parquet", group="who")
        tracemalloc.start()

        listing = list_source(source, base_dir=tmp_path)

        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert listing.labels.codes[:11].tolist() == [*range(10), 0]
        assert listing.groups is not None
        assert len(np.unique(listing.groups)) == 500
        # 12 bytes a row are kept, as much again while they are put together; text takes 60.
        assert peak < 40 * rows

    def test_threads_agree_on_their_numbers(self) -> None:
        coder = LabelCoder()
        names = [f"name {number}" for number in range(300)]

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: [coder.number(n) for n in names], range(16)))

        assert sorted(found[0]) == list(range(300))
        assert all(numbers == found[0] for numbers in found)

    def test_empty_texts_and_nulls_are_missing_labels(self, tmp_path: Path) -> None:
        table = pa.table({"image": [b"1"] * 4, "label": ["x", "", None, "y"]})
        pq.write_table(table, tmp_path / "a.parquet")

        with pytest.raises(DataError, match=r"2 rows have no label: a\.parquet#1, a\.parquet#2"):
            _list(tmp_path / "a.parquet")

    def test_files_that_encode_labels_otherwise_give_the_same_classes(self, tmp_path: Path) -> None:
        for name, labels in (
            ("a", pa.array([2, 10], pa.int8())),
            ("b", pa.array(["10", "2"]).dictionary_encode()),
            ("c", pa.array(["9", "2"], pa.large_string())),
        ):
            pq.write_table(
                pa.table({"image": [b"1", b"2"], "label": labels}), tmp_path / f"{name}.parquet"
            )

        listing = _list(tmp_path)

        assert listing.classes == ("2", "9", "10")
        assert listing.labels.codes.tolist() == [0, 2, 2, 0, 1, 0]


def test_files_that_hold_images_in_different_ways_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"1"], "label": ["x"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [{"bytes": b"1"}], "label": ["x"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"image": ["a.png"], "label": ["x"]}), tmp_path / "c.parquet")

    with pytest.raises(DataError) as caught:
        _list(tmp_path)

    assert "b.parquet: column 'image' has type struct<bytes: binary>" in str(caught.value)
    assert "c.parquet: column 'image' has type string, and binary in a.parquet" in str(caught.value)


def test_a_file_of_many_images_is_hashed_whatever_its_size(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is for files of one image; two large files must not pass for the same.
    monkeypatch.setattr("rayft.data.fingerprint.MAX_FILE_BYTES", 100)

    digests = digest_files(_list(write()).reader, store_root=Location(str(tmp_path / "stores")))

    assert digests.unreadable == {}
    assert len(digests.known["a.parquet"]) == 64
