import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from rayft.data.listing import Listing
from rayft.data.readers import Unreadable
from rayft.data.sources import list_source
from rayft.errors import DataError
from rayft.spec.sources import SourceSpec

Photos = Callable[..., Path]
ImageFile = Callable[..., bytes]
SOURCE: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec)


def _list(base_dir: Path, **fields: object) -> Listing:
    return list_source(SOURCE.validate_python(fields), base_dir=base_dir)


def _names(listing: Listing) -> list[str]:
    return [listing.classes[code] for code in listing.labels.codes]


def _refusal(base_dir: Path, **fields: object) -> str:
    with pytest.raises(DataError) as caught:
        _list(base_dir, **fields)
    return str(caught.value)


class TestFolder:
    def test_rows_come_by_class_and_name(self, photos: Photos) -> None:
        root = photos(classes=("cat", "bird"), per_class=2)

        listing = _list(root.parent, kind="folder", path="photos")

        assert listing.classes == ("bird", "cat")
        assert listing.reader.sources() == [
            "bird/00.png", "bird/01.png", "cat/00.png", "cat/01.png",
        ]  # fmt: skip
        assert listing.labels.codes.tolist() == [0, 0, 1, 1]

    def test_numbers_are_sorted_as_numbers(self, photos: Photos) -> None:
        root = photos(classes=("10", "9"), per_class=1)

        assert _list(root, kind="folder", path=".").classes == ("9", "10")

    def test_what_is_no_image_is_passed_over(self, photos: Photos) -> None:
        root = photos(per_class=1)
        for name in (".hidden.png", "Thumbs.db", "notes.txt"):
            (root / "cat" / name).write_bytes(b"x")
        (root / "cat" / "folder.jpg").mkdir()
        (root / "__MACOSX").mkdir()
        (root / ".cache").mkdir()
        os.mkfifo(root / "cat" / "pipe.png")

        listing = _list(root, kind="folder", path=".")

        assert listing.reader.sources() == ["bird/00.png", "cat/00.png"]

    def test_names_of_every_kind_are_rows(self, photos: Photos, image_file: ImageFile) -> None:
        root = photos(per_class=1)
        names = ["é.png", "e\u0301.png", "🐈.PNG", "x" * 251 + ".png", "a\nb.png"]
        for name in names:
            (root / "cat" / name).write_bytes(image_file())
        Path(root, "cat", os.fsdecode(b"\xff\xfe.png")).write_bytes(image_file())

        listing = _list(root, kind="folder", path=".")

        assert listing.num_rows == 2 + len(names) + 1
        assert "cat/\\xff\\xfe.png" in listing.reader.sources()
        assert all(isinstance(content, bytes) for content in listing.reader.read())

    def test_links_that_leave_the_folder_are_rows_that_cannot_be_read(
        self, photos: Photos, tmp_path: Path
    ) -> None:
        root = photos(per_class=1)
        (tmp_path / "secret.png").write_bytes(b"secret")
        (root / "cat" / "a.png").symlink_to(tmp_path / "secret.png")
        (root / "cat" / "b.png").symlink_to(root / "cat" / "00.png")
        (root / "cat" / "c.png").symlink_to(root / "nothing.png")
        (root / "cat" / "d.png").symlink_to(root / "cat" / "d.png")

        listing = _list(root, kind="folder", path=".")
        contents = dict(zip(listing.reader.sources(), listing.reader.read(), strict=True))

        assert contents["cat/b.png"] == contents["cat/00.png"]
        bad = {name for name, content in contents.items() if isinstance(content, Unreadable)}
        assert bad == {"cat/a.png", "cat/c.png", "cat/d.png"}

    def test_a_link_to_a_pipe_does_not_hang(self, photos: Photos) -> None:
        root = photos(per_class=1)
        os.mkfifo(root / "pipe")
        (root / "cat" / "a.png").symlink_to(root / "pipe")

        contents = list(_list(root, kind="folder", path=".").reader.read())

        assert Unreadable("it is no regular file") in contents

    def test_all_problems_are_told_at_once(self, photos: Photos, image_file: ImageFile) -> None:
        root = photos(per_class=1)
        (root / "empty").mkdir()
        (root / "loose.png").write_bytes(image_file())
        (root / "linked").symlink_to(root / "cat")

        message = _refusal(root, kind="folder", path=".")

        assert "folders hold no image: empty" in message
        assert "outside any class folder: loose.png" in message
        assert "symbolic links: linked" in message
        assert message.count("fix:") == 3

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        assert str(tmp_path / "no") in _refusal(tmp_path, kind="folder", path="no")


class TestParquet:
    def _write(self, path: Path, **columns: object) -> Path:
        pq.write_table(pa.table(columns), path, row_group_size=3)
        return path

    def test_files_are_read_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for name, values in (("b", [b"3"]), ("a", [b"1", b"2"]), (".c", [b"4"])):
            self._write(tmp_path / f"{name}.parquet", image=values, label=[1] * len(values))

        for path in (".", "*.parquet", str(tmp_path / "*.parquet")):
            listing = _list(tmp_path, kind="parquet", path=path)
            assert list(listing.reader.read()) == [b"1", b"2", b"3"]

        assert listing.reader.sources() == ["a.parquet#0", "a.parquet#1", "b.parquet#0"]

    @pytest.mark.parametrize("struct", [True, False])
    def test_any_range_of_rows_can_be_cut_out(self, tmp_path: Path, struct: bool) -> None:
        contents = [f"{row}".encode() for row in range(20)]
        image = [{"bytes": c, "path": None} for c in contents] if struct else contents
        for name, part in (("a", slice(0, 11)), ("b", slice(11, 20))):
            self._write(
                tmp_path / f"{name}.parquet", image=image[part], label=[0] * len(image[part])
            )
        reader = _list(tmp_path, kind="parquet", path=".").reader

        for start in range(20):
            for stop in range(start, 21):
                assert list(reader.cut(start, stop).read()) == contents[start:stop]
        assert list(reader.cut(5, 18).cut(2, 9).read()) == contents[7:14]

    def test_a_row_without_image_is_unreadable(self, tmp_path: Path) -> None:
        struct = pa.array(
            [{"bytes": None}, None, {"bytes": b""}], pa.struct({"bytes": pa.binary()})
        )
        self._write(tmp_path / "a.parquet", image=struct, label=["x", "y", "x"])

        contents = list(_list(tmp_path, kind="parquet", path="a.parquet").reader.read())

        assert contents == [Unreadable("the row holds no image bytes")] * 3

    def test_a_path_column_names_files_beside_it(self, photos: Photos) -> None:
        root = photos(per_class=1)
        self._write(root / "a.parquet", file=["bird/00.png", "cat/00.png"], label=["b", "c"])

        listing = _list(root, kind="parquet", path="a.parquet", image="file")

        assert listing.reader.sources() == ["bird/00.png", "cat/00.png"]

    @pytest.mark.parametrize(
        "labels",
        [
            pa.array([3, 20, 3], pa.int8()),
            pa.array(["3", "20", "3"]),
            pa.array(["3", "20", "3"]).dictionary_encode(),
        ],
    )
    def test_labels_of_every_type_become_names(self, tmp_path: Path, labels: pa.Array) -> None:
        self._write(tmp_path / "a.parquet", image=[b"1", b"2", b"3"], label=labels)

        listing = _list(tmp_path, kind="parquet", path="a.parquet")

        assert listing.classes == ("3", "20")
        assert _names(listing) == ["3", "20", "3"]

    def test_columns_are_checked_all_at_once(self, tmp_path: Path) -> None:
        self._write(tmp_path / "a.parquet", image=[1, 2], lable=["x", "y"])

        message = _refusal(tmp_path, kind="parquet", path="a.parquet", group="video")

        assert "column 'image' has type int64" in message
        assert "no column 'label'; nearest: lable" in message
        assert "no column 'video'" in message

    def test_float_labels_are_refused(self, tmp_path: Path) -> None:
        self._write(tmp_path / "a.parquet", image=[b"1"], label=[1.5])

        assert "expected text or integers" in _refusal(tmp_path, kind="parquet", path="a.parquet")

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"<html>"])
    def test_what_is_no_parquet_file_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.parquet").write_bytes(content)

        assert "no parquet file" in _refusal(tmp_path, kind="parquet", path="a.parquet")

    def test_nothing_found_and_nothing_inside_are_refused(self, tmp_path: Path) -> None:
        self._write(
            tmp_path / "a.parquet", image=pa.array([], pa.binary()), label=pa.array([], "str")
        )

        assert "no parquet file is there" in _refusal(tmp_path, kind="parquet", path="b-*.parquet")
        assert "it has no row" in _refusal(tmp_path, kind="parquet", path="a.parquet")
        assert "cannot be reached" in _refusal(tmp_path, kind="parquet", path="ftp://b/a.parquet")

    def test_real_files(self, shared_data: Path) -> None:
        listing = _list(shared_data, kind="parquet", path="cifar10/test-*.parquet")

        assert listing.classes == tuple(str(digit) for digit in range(10))
        assert np.bincount(listing.labels.codes).tolist() == [1000] * 10


class TestCsv:
    def _write(self, folder: Path, text: str, encoding: str = "utf-8") -> None:
        (folder / "list.csv").write_bytes(text.encode(encoding))

    def test_byte_order_mark_line_ends_and_quotes_are_read(self, photos: Photos) -> None:
        root = photos(per_class=1)
        text = 'image,label\r\nbird/00.png,"a, ""b"""\r\n./cat/00.png,c\r\n'
        self._write(root, text, encoding="utf-8-sig")

        listing = _list(root, kind="csv", path="list.csv")

        assert _names(listing) == ['a, "b"', "c"]
        assert listing.reader.sources() == ["bird/00.png", "cat/00.png"]

    def test_paths_start_from_the_root(self, photos: Photos, tmp_path: Path) -> None:
        root = photos(per_class=1)
        self._write(tmp_path, f"image,label\ncat/00.png,c\n{root}/bird/00.png,b\n")

        listing = _list(tmp_path, kind="csv", path="list.csv", root="photos")

        assert listing.reader.sources() == ["cat/00.png", "bird/00.png"]
        assert all(isinstance(content, bytes) for content in listing.reader.read())

    def test_a_root_may_lie_above_the_manifest(self, photos: Photos) -> None:
        root = photos(per_class=1)
        (root / "lists").mkdir()
        self._write(root / "lists", "image,label\ncat/00.png,c\nbird/../bird/00.png,b\n")

        listing = _list(root / "lists", kind="csv", path="list.csv", root="../../photos")

        assert listing.reader.sources() == ["cat/00.png", "bird/00.png"]

    def test_paths_outside_the_root_are_refused(self, photos: Photos) -> None:
        root = photos(per_class=1)
        self._write(root, "image,label\ncat/00.png,c\n../x.png,c\n/etc/passwd,b\n,b\n")

        message = _refusal(root, kind="csv", path="list.csv")

        assert "3 paths do not lie inside" in message
        assert "row 1: '../x.png', row 2: '/etc/passwd', row 3: no path" in message

    def test_groups_stay_together(self, photos: Photos) -> None:
        root = photos(per_class=2)
        lines = ["bird/00.png,b,1", "bird/01.png,b,", "cat/00.png,c,1", "cat/01.png,c,2"]
        self._write(root, "\n".join(["image,label,who", *lines]))

        groups = _list(root, kind="csv", path="list.csv", group="who").groups

        assert groups is not None
        assert groups[0] == groups[2] != groups[3]
        assert groups[1] == 0

    def test_rows_without_label_are_named(self, photos: Photos) -> None:
        root = photos(per_class=1)
        self._write(root, "image,label\n" + "cat/00.png,\n" * 7 + "cat/00.png\nbird/00.png,b\n")

        message = _refusal(root, kind="csv", path="list.csv")

        assert "8 rows have no label" in message
        assert "and 3 more" in message

    @pytest.mark.parametrize(("one", "two"), [("cat", " cat"), ("1", "01")])
    def test_labels_that_are_nearly_alike_are_refused(
        self, photos: Photos, one: str, two: str
    ) -> None:
        root = photos(per_class=1)
        self._write(root, f"image,label\ncat/00.png,{one}\nbird/00.png,{two}\n")

        assert "differ only in spaces or leading zeros" in _refusal(
            root, kind="csv", path="list.csv"
        )

    @pytest.mark.parametrize("content", ["", "image;label\nx;y\n", "a\0b,c\n\0"])
    def test_other_files_are_refused(self, tmp_path: Path, content: str) -> None:
        self._write(tmp_path, content)

        assert "list.csv" in _refusal(tmp_path, kind="csv", path="list.csv")

    def test_another_encoding_is_refused(self, tmp_path: Path) -> None:
        self._write(tmp_path, "image,label\né.png,x\n", encoding="latin-1")

        assert "UTF-8" in _refusal(tmp_path, kind="csv", path="list.csv")
