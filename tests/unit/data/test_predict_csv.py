"""CSV manifests to predict: read as a stream, cut by bytes, rows kept whatever they name."""

import csv
from pathlib import Path

import pytest

from rayft.data.predict_columns import Wanted
from rayft.data.predict_csv import ROWS_PER_MARK
from rayft.data.predict_input import InputRows, find_input
from rayft.data.predict_rows import RawBatch
from rayft.errors import DataError
from rayft.storage.location import Location
from rayft.transforms.decode import Unreadable
from tests.unit.conftest import make_image_file


def find(table: object, *, root: str | None = None, **wanted: object) -> InputRows:
    asked = Wanted(**{"image": None, "columns": "all", **wanted})  # type: ignore[arg-type]
    return find_input([str(table)], wanted=asked, root=root, base_dir=Path.cwd())


def batches_of(rows: InputRows, rows_per_chunk: int, rows_per_batch: int) -> list[RawBatch]:
    return [b for chunk in rows.chunks(rows_per_chunk) for b in chunk.read(rows_per_batch)]


def column(batches: list[RawBatch], name: str) -> list[str | None]:
    return [value for batch in batches for value in batch.carried.column(name).to_pylist()]


def test_rows_go_through_with_their_columns_and_images(place: Location) -> None:
    for number in range(5):
        (place / f"pictures/{number}.png").write_bytes(make_image_file(number))
    text = "id,image,note\n" + "".join(f"r{n},pictures/{n}.png,note {n}\n" for n in range(5))
    (place / "table.csv").write_bytes(text.encode())

    rows = find(place / "table.csv")
    batches = batches_of(rows, 3, 2)

    assert rows.num_rows == 5
    assert rows.carried.names == ["id", "image", "note"]
    assert column(batches, "id") == [f"r{n}" for n in range(5)]
    assert [raw for b in batches for raw in b.read()] == [make_image_file(n) for n in range(5)]


def test_the_fault_of_a_row_is_that_rows_alone(place: Location) -> None:
    (place / "in" / "a.png").write_bytes(make_image_file(0))
    (place / "b.png").write_bytes(make_image_file(1))
    text = f"image\na.png\ngone.png\n../b.png\n{place}/b.png\n{place}/in/a.png\n''\n"
    (place / "in" / "table.csv").write_bytes(text.replace("''", '""').encode())

    (batch,) = batches_of(find(place / "in" / "table.csv"), 8, 8)
    first, gone, out, absolute_out, absolute_in, empty = batch.read()

    assert first == absolute_in == make_image_file(0)
    assert isinstance(gone, Unreadable)
    assert isinstance(out, Unreadable)
    assert "does not lie in" in out.reason
    assert isinstance(absolute_out, Unreadable)
    assert isinstance(empty, Unreadable)
    assert empty.reason == "the row names no image"
    (again,) = batches_of(find(place / "in" / "table.csv", root=str(place)), 8, 8)
    assert [isinstance(raw, bytes) for raw in again.read()] == [*[False] * 3, True, True, False]


@pytest.mark.parametrize("rows_per_chunk", [1, 7, ROWS_PER_MARK, 1000])
def test_chunks_by_bytes_are_the_rows_of_the_whole_file(
    tmp_path: Path, rows_per_chunk: int
) -> None:
    # Line breaks and quotes in values, empty lines, characters of one to four bytes.
    notes = [f'é{n}\n"quoted", ✓ 🦆\r\n' * (n % 3) for n in range(ROWS_PER_MARK * 2 + 37)]
    table = tmp_path / "table.csv"
    with table.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["note", "image"])
        for number, note in enumerate(notes):
            writer.writerow([note, f"{number}.png"])
            file.write("\r\n" * (number % 5 == 0))

    rows = find(table)

    assert rows.num_rows == len(notes)
    batches = batches_of(rows, rows_per_chunk, 64)
    assert column(batches, "note") == notes
    assert column(batches, "image") == [f"{n}.png" for n in range(len(notes))]


def test_a_short_row_lacks_its_last_values(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("image,note\na.png,x\nb.png\n")

    (batch,) = batches_of(find(table), 8, 8)

    assert batch.carried.column("note").to_pylist() == ["x", None]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"image,note\na.png,x\nb.png,y,z\n", "line 3 has 3 values"),
        (b"image\na\xff.png\n", "no CSV file"),
        (b"image\n", "no row"),
        (b"", "cannot be told which column"),
        (b"one,two\n1,2\n", "cannot be told which column"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)

    with pytest.raises(DataError, match=what):
        find(tmp_path / "table.csv")


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("id,scan,other\n1,a.png,x\n")

    assert find(table, image="scan", columns=("id",)).carried.names == ["id"]
    assert find(table, image="scan", columns=()).carried.names == []
    assert find(table, usual_images=("scan",)).num_rows == 1
    with pytest.raises(DataError, match="nearest: scan"):
        find(table, image="scam")
    with pytest.raises(DataError, match="no column 'idd'"):
        find(table, image="scan", columns=("idd",))
    with pytest.raises(DataError, match="stand there twice: 'id'"):
        find(table, image="scan", columns=("id", "id"))


def test_a_file_that_changes_is_not_read_on(place: Location) -> None:
    table = place / "table.csv"
    table.write_bytes(b"image\na.png\n")
    rows = find(table)

    table.write_bytes(b"image\nb.png\n")

    assert find(table).version != rows.version
    with pytest.raises(DataError, match="changed since it was listed"):
        batches_of(rows, 8, 8)


def test_two_tables_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("image\na.png\n")

    with pytest.raises(DataError, match="2 CSV files"):
        find(tmp_path / "*.csv")
    with pytest.raises(DataError, match="no such file"):
        find(tmp_path / "c.csv")
