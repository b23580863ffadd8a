import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayft.data.inspect import inspect_path
from rayft.errors import DataError

Photos = Callable[..., Path]
ImageFile = Callable[..., bytes]


def test_a_folder_for_each_class(photos: Photos) -> None:
    root = photos(per_class=3)

    found = inspect_path(root)

    assert found.sources == {"train": {"kind": "folder", "path": str(root)}}
    assert found.num_rows == {"train": 6}
    assert found.classes == ("bird", "cat")
    assert found.typical_size == (12, 10)
    assert found.image_size == 96


def test_folders_named_after_splits(photos: Photos) -> None:
    photos("data/train", per_class=3)
    root = photos("data/val", per_class=2).parent

    found = inspect_path(root)

    assert found.sources["validation"] == {"kind": "folder", "path": str(root / "val")}
    assert found.num_rows == {"train": 6, "validation": 4}


def test_real_parquet_files_with_their_splits(shared_data: Path) -> None:
    found = inspect_path(shared_data / "cifar10")

    assert set(found.sources) == {"train", "test"}
    assert found.num_rows == {"train": 50_000, "test": 10_000}
    assert found.typical_size == (32, 32)
    assert len(found.classes) == 10


def test_columns_are_told_by_type_and_by_name(tmp_path: Path, image_file: ImageFile) -> None:
    columns = {"id": [1, 2], "picture": [image_file()] * 2, "Category": ["a", "b"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")

    (fields,) = inspect_path(tmp_path / "a.parquet").sources.values()

    assert (fields["image"], fields["label"]) == ("picture", "Category")


def test_a_csv_manifest(photos: Photos) -> None:
    root = photos(per_class=1)
    (root / "list.csv").write_text("file_name,class,notes\ncat/00.png,c,x\nbird/00.png,b,y\n")

    found = inspect_path(root)

    assert found.sources["train"] == {
        "kind": "csv",
        "path": str(root / "list.csv"),
        "image": "file_name",
        "label": "class",
    }


@pytest.mark.parametrize(
    ("size", "suggested"), [((8, 8), 96), ((130, 120), 128), ((500, 375), 224)]
)
def test_the_suggested_size_follows_the_images(
    photos: Photos, image_file: ImageFile, size: tuple[int, int], suggested: int
) -> None:
    root = photos(per_class=1)
    for path in root.rglob("*.png"):
        path.write_bytes(image_file(size=size))

    assert inspect_path(root).image_size == suggested


def test_what_cannot_be_told_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")

    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(DataError, match=r"looked for \*\.parquet, for \*\.csv"):
            inspect_path(path)
    shutil.rmtree(tmp_path)
    with pytest.raises(DataError, match="nothing at this path"):
        inspect_path(tmp_path)


def test_columns_that_cannot_be_told_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one,two,three\n1,2,3\n")

    with pytest.raises(DataError, match=r"image and label can be told among: one, two, three"):
        inspect_path(tmp_path / "a.csv")


def test_notes_beside_class_folders_do_not_mislead(photos: Photos) -> None:
    root = photos(per_class=1)
    (root / "notes.csv").write_text("who,when\nme,now\n")

    assert inspect_path(root).sources["train"]["kind"] == "folder"


def test_a_file_that_only_looks_like_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")

    with pytest.raises(DataError, match="no parquet file"):
        inspect_path(tmp_path)
