"""Image files to predict: which files are rows, in which order, and how they are read."""

import os
from pathlib import Path

import pytest

from rayft.data.predict_columns import Wanted
from rayft.data.predict_files import FileInput
from rayft.data.predict_input import InputRows, find_input
from rayft.errors import DataError
from rayft.storage.location import Location
from rayft.transforms.decode import Unreadable
from tests.unit.conftest import make_image_file


def find(*inputs: object, **wanted: object) -> InputRows:
    asked = Wanted(**{"image": None, "columns": "all", **wanted})  # type: ignore[arg-type]
    return find_input([str(each) for each in inputs], wanted=asked, root=None, base_dir=Path.cwd())


def paths_of(rows: InputRows) -> list[str]:
    assert isinstance(rows, FileInput)
    return list(rows.reader.paths)


def write(place: Location, *names: str) -> None:
    for number, name in enumerate(names):
        (place / name).write_bytes(make_image_file(number))


def test_a_folder_of_any_depth_gives_its_images_in_the_order_of_their_names(
    place: Location,
) -> None:
    write(place, "b.PNG", "a/deep/er/1.jpg", "a/2.webp", "notes.txt", ".hidden.png")
    write(place, ".cache/3.png", "__MACOSX/4.png", "a.bmp")

    rows = find(place)

    assert paths_of(rows) == ["a.bmp", "a/2.webp", "a/deep/er/1.jpg", "b.PNG"]
    assert rows.carried.names == ["path"]


def test_batches_of_all_chunks_are_the_rows_once_and_in_order(place: Location) -> None:
    write(place, *(f"{number:02d}.png" for number in range(11)))
    rows = find(place)

    batches = [batch for chunk in rows.chunks(4) for batch in chunk.read(3)]

    assert [batch.num_rows for batch in batches] == [3, 1, 3, 1, 3]
    assert [path for b in batches for path in b.carried.column("path").to_pylist()] == [
        f"{place}/{number:02d}.png" for number in range(11)
    ]
    assert [raw for b in batches for raw in b.read()] == [make_image_file(n) for n in range(11)]


def test_links_out_of_the_folder_are_rows_that_cannot_be_read(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out"
    write(Location(str(folder)), "a.png")
    write(Location(str(outside)), "b.png")
    (folder / "link.png").symlink_to(outside / "b.png")
    (folder / "nothing.png").symlink_to(folder / "gone.png")
    (folder / "folder").symlink_to(outside)

    rows = find(folder)

    assert paths_of(rows) == ["a.png", "link.png", "nothing.png"]
    (batch,) = rows.chunks(8)[0].read(8)
    first, link, nothing = batch.read()
    assert first == make_image_file(0)
    assert isinstance(link, Unreadable)
    assert "leaves" in link.reason
    assert isinstance(nothing, Unreadable)


def test_a_file_that_is_named_is_a_row_whatever_its_name_and_also_as_a_link(
    tmp_path: Path,
) -> None:
    write(Location(str(tmp_path)), "a/picture", "b/cat.png")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "b" / "cat.png")

    rows = find(tmp_path / "a" / "picture", tmp_path / "link.jpg", tmp_path / "link.jpg")

    assert paths_of(rows) == ["a/picture", "link.jpg"]
    (batch,) = rows.chunks(8)[0].read(8)
    assert list(batch.read()) == [make_image_file(0), make_image_file(1)]


def test_folders_and_files_may_be_named_together(tmp_path: Path) -> None:
    write(Location(str(tmp_path)), "a/1.png", "a/2.png", "b/3.png", "b/4.png")

    assert paths_of(find(tmp_path / "b", tmp_path / "a" / "2.png")) == [
        "a/2.png",
        "b/3.png",
        "b/4.png",
    ]


def test_a_pattern_gives_the_files_that_match(place: Location) -> None:
    write(place, "a1.png", "a2.png", "b1.png", "a3.jpg")

    assert paths_of(find(f"{place}/a*.png")) == ["a1.png", "a2.png"]


def test_files_of_several_buckets_or_machines_are_refused(tmp_path: Path, bucket: Location) -> None:
    here = Location(str(tmp_path))
    write(here, "a.png")
    write(bucket / "mixed", "b.png")

    with pytest.raises(DataError, match="mixed"):
        find(here / "a.png", bucket / "mixed" / "b.png")


def test_the_version_follows_names_and_content(place: Location) -> None:
    write(place, "a.png", "b.png")
    before = find(place)

    assert find(place).version == before.version
    (place / "a.png").write_bytes(make_image_file(9))
    changed = find(place)
    write(place, "c.png")

    assert len({before.version, changed.version, find(place).version}) == 3


def test_what_is_not_there_or_has_no_image_is_refused_with_every_problem(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError) as caught:
        find(tmp_path / "empty", tmp_path / "photoss")

    first, second = caught.value.problems
    assert "holds no image" in first.what
    assert "no such file or folder" in second.what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0)

    with pytest.raises(DataError, match="Permission denied"):
        find(tmp_path)


def test_kinds_cannot_be_mixed(tmp_path: Path) -> None:
    write(Location(str(tmp_path)), "a.png")
    (tmp_path / "b.parquet").write_bytes(b"")

    with pytest.raises(DataError, match="different kinds"):
        find(tmp_path / "a.png", tmp_path / "b.parquet")
    with pytest.raises(DataError, match="both parquet files and images"):
        find(tmp_path)


@pytest.mark.parametrize("wanted", [{"image": "x"}, {"columns": ("a",)}])
def test_settings_of_tables_are_refused_for_files(
    tmp_path: Path, wanted: dict[str, object]
) -> None:
    write(Location(str(tmp_path)), "a.png")

    with pytest.raises(DataError, match="no effect on image files"):
        find(tmp_path, **wanted)
