"""Parquet files to predict: cut by row groups, read by ranges, columns kept with their types."""

import datetime as dt
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayft.data.predict_columns import Wanted
from rayft.data.predict_input import InputRows, find_input
from rayft.data.predict_parquet_input import ParquetInput
from rayft.data.predict_rows import RawBatch
from rayft.errors import DataError
from rayft.storage.location import Location
from rayft.transforms.decode import Unreadable
from tests.unit.conftest import make_image_file


def find(*inputs: object, root: str | None = None, **wanted: object) -> InputRows:
    asked = Wanted(**{"image": None, "columns": "all", **wanted})  # type: ignore[arg-type]
    return find_input([str(each) for each in inputs], wanted=asked, root=root, base_dir=Path.cwd())


def batches_of(rows: InputRows, rows_per_chunk: int, rows_per_batch: int) -> list[RawBatch]:
    return [b for chunk in rows.chunks(rows_per_chunk) for b in chunk.read(rows_per_batch)]


def column(batches: list[RawBatch], name: str) -> list[Any]:
    return [value for batch in batches for value in batch.carried.column(name).to_pylist()]


def raws(batches: list[RawBatch]) -> list[Any]:
    return [raw for batch in batches for raw in batch.read()]


def write(place: Location, table: Any, **options: Any) -> None:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    place.write_bytes(file.getvalue())


def images(first: int, stop: int) -> list[bytes]:
    return [b"image %d" % number for number in range(first, stop)]


def table_of(first: int, stop: int) -> Any:
    return pa.table({"image": images(first, stop), "id": list(range(first, stop))})


@pytest.mark.parametrize("group", [1, 7, 10, 25, 100])
@pytest.mark.parametrize("rows_per_chunk", [3, 10, 24, 1000])
def test_every_row_once_and_in_order_however_it_is_cut(
    tmp_path: Path, group: int, rows_per_chunk: int
) -> None:
    for number in range(3):
        file = Location(str(tmp_path)) / f"{number}.parquet"
        write(file, table_of(30 * number, 30 * number + 30), row_group_size=group)

    rows = find(tmp_path)
    chunks = rows.chunks(rows_per_chunk)
    batches = batches_of(rows, rows_per_chunk, 4)

    assert rows.num_rows == sum(chunk.num_rows for chunk in chunks) == 90
    assert column(batches, "id") == list(range(90))
    assert raws(batches) == images(0, 90)
    full = [b.num_rows for chunk in chunks for b in list(chunk.read(4))[:-1]]
    assert set(full) <= {4}


def test_chunks_end_where_row_groups_do(tmp_path: Path) -> None:
    write(Location(str(tmp_path)) / "a.parquet", table_of(0, 100), row_group_size=10)

    sizes = [chunk.num_rows for chunk in find(tmp_path).chunks(32)]

    assert sizes == [30, 30, 30, 10]


def test_a_huge_row_group_is_cut_into_few_pieces(tmp_path: Path) -> None:
    write(Location(str(tmp_path)) / "a.parquet", table_of(0, 1000))

    sizes = [chunk.num_rows for chunk in find(tmp_path).chunks(10)]

    assert sizes == [125] * 8


def test_types_go_through_unchanged(place: Location) -> None:
    table = pa.table(
        {
            "when": pa.array([dt.datetime(2024, 1, 2)] * 3, pa.timestamp("ms", "UTC")),
            "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
            "box": pa.array([[1, 2], None, []], pa.list_(pa.int16())),
            "meta": pa.array([{"x": 1, "y": None}] * 3),
            "price": pa.array([1, None, 3], pa.decimal128(9, 2)),
            "photo": pa.array([{"bytes": b"one", "path": "1"}, None, {"bytes": None, "path": "3"}]),
        }
    )
    write(place / "a.parquet", table)

    rows = find(place / "a.parquet")
    (batch,) = batches_of(rows, 8, 8)

    expected = table.drop_columns(["photo"])
    assert rows.carried.equals(expected.schema)
    assert batch.carried.combine_chunks().equals(expected)
    first, *rest = batch.read()
    assert first == b"one"
    assert [isinstance(raw, Unreadable) for raw in rest] == [True, True]


def test_paths_in_a_column_are_read(place: Location) -> None:
    for number in range(3):
        (place / f"pictures/{number}.png").write_bytes(make_image_file(number))
    names = [f"{number}.png" for number in range(3)] + [None, "gone.png"]
    write(place / "table.parquet", pa.table({"file_name": names}))

    batches = batches_of(find(place / "table.parquet", root=f"{place}/pictures"), 8, 2)

    found = raws(batches)
    assert found[:3] == [make_image_file(number) for number in range(3)]
    assert all(isinstance(raw, Unreadable) for raw in found[3:])
    assert column(batches, "file_name") == names


def test_columns_are_chosen(tmp_path: Path) -> None:
    table = pa.table({"a": [b"1"], "b": [b"2"], "label": ["x"], "n": [1]})
    write(Location(str(tmp_path)) / "a.parquet", table)

    chosen = find(tmp_path, image="b", columns=("n", "b"))

    assert chosen.carried.names == ["n", "b"]
    assert raws(batches_of(chosen, 8, 8)) == [b"2"]
    assert find(tmp_path, image="b").carried.names == ["label", "n"]
    assert find(tmp_path, usual_images=("a",)).carried.names == ["label", "n"]
    with pytest.raises(DataError, match="cannot be told which column"):
        find(tmp_path)
    with pytest.raises(DataError, match="holds neither images nor paths"):
        find(tmp_path, image="n")
    with pytest.raises(DataError, match="--root has no effect"):
        find(tmp_path, image="b", root=".")


def test_files_that_differ_are_refused_with_each_difference(tmp_path: Path) -> None:
    folder = Location(str(tmp_path))
    write(folder / "a.parquet", pa.table({"image": [b"1"], "id": [1], "x": [1.0]}))
    write(folder / "b.parquet", pa.table({"image": [b"1"], "id": ["1"]}))

    with pytest.raises(DataError) as caught:
        find(tmp_path)

    assert "column 'id' is string, and int64 in a.parquet" in caught.value.problems[0].what
    assert "it has no column 'x'" in caught.value.problems[1].what
    assert find(tmp_path, columns=()).num_rows == 2


def test_fields_may_differ_in_metadata_and_nullability(tmp_path: Path) -> None:
    folder = Location(str(tmp_path))
    for number, field in enumerate(
        [
            pa.field("id", pa.int64(), nullable=False, metadata={"a": "b"}),
            pa.field("id", pa.int64()),
        ]
    ):
        schema = pa.schema([field, pa.field("image", pa.binary())])
        write(folder / f"{number}.parquet", pa.table([[1, 2], images(0, 2)], schema=schema))

    batches = batches_of(find(tmp_path), 8, 3)

    assert column(batches, "id") == [1, 2, 1, 2]


def test_a_damaged_file_is_refused_or_stops_the_chunk(place: Location) -> None:
    write(place / "a.parquet", table_of(0, 2000), compression="none")
    rows = find(place / "a.parquet")
    content = bytearray((place / "a.parquet").read_bytes())

    (place / "b.parquet").write_bytes(bytes(content[:-1]))
    with pytest.raises(DataError, match="no parquet file"):
        find(place / "b.parquet")
    content[4:400] = b"\xff" * 396
    (place / "a.parquet").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"cannot be read|changed since it was listed"):
        batches_of(rows, 8, 8)


def test_files_that_change_are_noticed(tmp_path: Path) -> None:
    file = Location(str(tmp_path)) / "a.parquet"
    write(file, table_of(0, 5))
    rows = find(tmp_path)
    assert rows.is_as_listed()

    write(file, table_of(1, 6))

    assert not rows.is_as_listed()
    assert find(tmp_path).version != rows.version


def test_patterns_files_and_folders_together(tmp_path: Path) -> None:
    folder = Location(str(tmp_path))
    for number, name in enumerate(("x/1.parquet", "x/2.parquet", "y/1.parquet", "3.parquet")):
        write(folder / name, table_of(number, number + 1))

    rows = find(f"{tmp_path}/x/*.parquet", tmp_path / "y", tmp_path / "3.parquet")

    assert isinstance(rows, ParquetInput)
    assert [file.path for file in rows.files.files] == [
        "3.parquet",
        "x/1.parquet",
        "x/2.parquet",
        "y/1.parquet",
    ]
    assert column(batches_of(rows, 8, 8), "id") == [3, 0, 1, 2]
