"""What holds for every place: on the disk, and once more in an object store."""

import hashlib
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayft.errors import SpecError
from rayft.storage.client import PART_BYTES
from rayft.storage.location import Changed, FileEntry, Location, StorageFault

ODD_NAMES = [
    "a b",
    "é/ü 漢字",
    "100%",
    "a%20b",
    "a#b",
    "a+b",
    "a?b=c&d",
    "x'y\"z",
    "[1]{2}*",
    "…",
    "😀",
]


def _parse(text: str) -> Location:
    return Location.parse(text, base_dir=Path("/base"), where="data.path")


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "url"),
        [
            ("runs", "/base/runs"),
            ("./runs/../other/", "/base/other"),
            ("/abs//x/", "/abs/x"),
            ("file:///abs/a%20b", "/abs/a b"),
            ("file://localhost/abs", "/abs"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket//a/./b//c/", "s3://bucket/a/b/c"),
            ("S3://bucket/Key", "s3://bucket/Key"),
            ("gs://my-bucket.x/a b/%20#+", "gs://my-bucket.x/a b/%20#+"),
            ("C:/odd", "/base/C:/odd"),
        ],
    )
    def test_what_is_meant_is_found(self, text: str, url: str) -> None:
        assert _parse(text).url == url

    def test_home_is_that_of_the_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/someone")

        assert _parse("~/runs").url == "/home/someone/runs"

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("hdfs://host/x", "hdfs:// is of a kind"),
            ("s3a://bucket/x", "s3a:// is of a kind"),
            ("file://host/x", "another machine"),
            ("s3://", "names no bucket"),
            ("s3:/bucket/x", "names no bucket"),
            ("s3:///key", "names no bucket"),
            ("s3://bucket/a/../../b", "leads out of its folder"),
            ("gs://bucket/a\tb", "control character"),
        ],
    )
    def test_what_cannot_be_reached_is_refused_by_its_setting(self, text: str, what: str) -> None:
        with pytest.raises(SpecError, match=what) as caught:
            _parse(text)

        assert caught.value.problems[0].where == "data.path"

    def test_keys_before_a_bucket_are_not_repeated(self) -> None:
        with pytest.raises(SpecError) as caught:
            _parse("s3://KEYID:hidden@bucket/x")

        assert "hidden" not in str(caught.value)


class TestNames:
    @pytest.mark.parametrize("root", ["/", "/a", "s3://bucket", "gs://bucket/a"])
    def test_a_part_added_is_the_name_and_its_parent_the_whole(self, root: str) -> None:
        place = Location(root) / "b" / "c/d"

        assert place.name == "d"
        assert place.parent.parent.parent == Location(root)

    def test_the_top_is_its_own_parent(self) -> None:
        assert Location("s3://bucket").parent == Location("s3://bucket")
        assert Location("/").parent == Location("/")
        assert Location("s3://bucket").name == ""

    @pytest.mark.parametrize("part", ["/abs", "../x", "a/../b", "", "a//b", "./a", "a/"])
    def test_what_would_lead_elsewhere_is_refused(self, part: str) -> None:
        for root in ("/a", "s3://bucket/a"):
            with pytest.raises(ValueError, match="no relative path"):
                Location(root) / part

    def test_only_a_local_one_has_a_path(self) -> None:
        assert Location("/a").path == Path("/a")
        with pytest.raises(ValueError, match="no path of this machine"):
            _ = Location("s3://bucket/a").path

    def test_it_is_a_value(self) -> None:
        place = Location("s3://bucket/a")

        assert pickle.loads(pickle.dumps(place)) == place
        assert len({place, Location("s3://bucket/a")}) == 1
        assert str(place) == "s3://bucket/a"


class TestFiles:
    def test_what_is_written_is_read(self, place: Location) -> None:
        file = place / "folder/file"

        file.write_bytes(b"old")
        file.write_bytes(memoryview(b"new"))

        assert file.exists()
        assert file.read_bytes() == b"new"
        content, version = file.read_versioned()
        state = file.stat()
        assert state is not None
        assert (content, version, state.size) == (b"new", state.version, 3)
        assert file.sha256() == hashlib.sha256(b"new").hexdigest()

    def test_a_file_may_be_empty(self, place: Location, tmp_path: Path) -> None:
        (place / "empty").write_bytes(b"")

        (place / "empty").download(tmp_path / "copy")

        assert (place / "empty").read_bytes() == b""
        assert (tmp_path / "copy").read_bytes() == b""
        assert (place / "empty").sha256() == hashlib.sha256().hexdigest()
        with (place / "empty").open() as file:
            assert file.read() == b""

    def test_a_missing_file_is_told(self, place: Location, tmp_path: Path) -> None:
        missing = place / "folder/missing"

        assert missing.stat() is None
        assert not missing.exists()
        for read in (missing.read_bytes, missing.read_versioned, missing.sha256):
            with pytest.raises(FileNotFoundError):
                read()
        with pytest.raises(FileNotFoundError):
            missing.read_bytes(version="1")
        with pytest.raises(FileNotFoundError), missing.open():
            pass
        with pytest.raises(FileNotFoundError):
            missing.download(tmp_path / "copies" / "copy")
        with pytest.raises(FileNotFoundError):
            missing.upload(tmp_path / "nowhere")
        missing.delete()
        assert list((tmp_path / "copies").iterdir()) == []
        assert not missing.exists()

    def test_a_folder_is_no_file(self, place: Location) -> None:
        (place / "folder/file").write_bytes(b"1")

        assert (place / "folder").stat() is None
        assert not (place / "folder").exists()
        with pytest.raises(OSError):  # noqa: PT011  the disk and the store name it differently
            (place / "folder").read_bytes()

    def test_another_version_is_not_read(self, place: Location) -> None:
        file = place / "file"
        file.write_bytes(b"one")
        first = file.read_versioned()[1]

        file.write_bytes(b"two")

        assert file.read_bytes(version=file.read_versioned()[1]) == b"two"
        with pytest.raises(Changed):
            file.read_bytes(version=first)
        with pytest.raises(Changed), file.open(version=first):
            pass

    def test_listing_asking_and_reading_agree_on_the_version(self, place: Location) -> None:
        (place / "file").write_bytes(b"one")

        state = (place / "file").stat()

        assert state is not None
        assert place.files() == [FileEntry("file", 3, state.version)]
        assert (place / "file").read_bytes(version=place.files()[0].version) == b"one"

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_names_stay_as_they_are(self, place: Location, name: str) -> None:
        file = place / "odd" / name

        file.write_bytes(b"1")

        assert file.read_bytes() == b"1"
        assert [entry.path for entry in (place / "odd").files()] == [name]
        assert (place / "odd").children() == [name.split("/")[0]]
        file.delete()
        assert (place / "odd").files() == []


class TestConditions:
    def test_only_the_first_creates(self, place: Location) -> None:
        file = place / "folder/file"

        assert file.create(b"one")
        assert not file.create(b"two")

        assert file.read_bytes() == b"one"
        assert (place / "folder").children() == ["file"]

    def test_one_of_many_at_once_creates(self, place: Location) -> None:
        file, ready = place / "file", threading.Barrier(8)

        def create(number: int) -> bool:
            ready.wait()
            return file.create(str(number).encode())

        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(create, range(8)))

        assert sum(made) == 1
        assert file.read_bytes() == str(made.index(True)).encode()
        assert place.children() == ["file"]

    def test_a_replaced_file_has_another_version(self, place: Location) -> None:
        file = place / "file"
        file.write_bytes(b"one")
        first = file.read_versioned()[1]

        assert file.replace(b"two", version=first)
        assert not file.replace(b"three", version=first)

        assert file.read_bytes() == b"two"
        assert place.children() == ["file"]

    def test_nothing_is_replaced_where_nothing_is(self, place: Location) -> None:
        file = place / "file"
        file.write_bytes(b"one")
        version = file.read_versioned()[1]
        file.delete()

        assert not file.replace(b"two", version=version)
        assert not (place / "never").replace(b"two", version=version)
        assert not file.exists()

    def test_no_step_of_many_writers_is_lost(self, place: Location) -> None:
        file = place / "count"
        file.write_bytes(b"0")

        def count(_: int) -> None:
            while True:
                content, version = file.read_versioned()
                if file.replace(str(int(content) + 1).encode(), version=version):
                    return

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(count, range(40)))

        assert file.read_bytes() == b"40"
        assert place.children() == ["count"]


class TestLargeFiles:
    CONTENT = os.urandom(1000) * 21_000
    """21 MB: three parts, the last one short."""

    def test_they_come_whole_by_every_way(self, place: Location, tmp_path: Path) -> None:
        assert 2 * PART_BYTES < len(self.CONTENT) < 3 * PART_BYTES
        source, file = tmp_path / "source", place / "folder" / "large"
        source.write_bytes(self.CONTENT)

        file.upload(source)
        file.download(tmp_path / "new" / "copy")

        assert (tmp_path / "new" / "copy").read_bytes() == self.CONTENT
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"]
        assert file.read_bytes() == self.CONTENT
        assert file.sha256() == hashlib.sha256(self.CONTENT).hexdigest()

    def test_they_are_created_and_written_from_memory(self, place: Location) -> None:
        assert (place / "created").create(self.CONTENT)
        (place / "written").write_bytes(memoryview(self.CONTENT))

        assert [entry.size for entry in place.files()] == [len(self.CONTENT)] * 2

    def test_any_part_can_be_read(self, place: Location) -> None:
        file = place / "large"
        file.write_bytes(self.CONTENT)
        version = file.read_versioned()[1]

        with file.open(version=version) as opened:
            assert opened.seek(-5, os.SEEK_END) == len(self.CONTENT) - 5
            assert opened.read() == self.CONTENT[-5:]
            assert opened.seek(12_345_678) == 12_345_678
            assert opened.read(3_000_000) == self.CONTENT[12_345_678:15_345_678]
            assert opened.seek(-10, os.SEEK_CUR) == 15_345_668
            assert opened.read(10) == self.CONTENT[15_345_668:15_345_678]
            assert opened.tell() == 15_345_678
            opened.seek(len(self.CONTENT) + 1)
            assert opened.read(1) == b""
            with pytest.raises((OSError, ValueError)):
                opened.seek(-1)

    def test_a_table_is_read_in_place(self, place: Location, tmp_path: Path) -> None:
        table = pa.table({"x": list(range(100_000)), "y": ["text"] * 100_000})
        pq.write_table(table, tmp_path / "table.parquet", row_group_size=10_000)
        (place / "table").upload(tmp_path / "table.parquet")

        with (place / "table").open() as opened, pq.ParquetFile(opened) as file:
            assert file.read_row_group(7, columns=["x"])["x"].to_pylist()[:2] == [70_000, 70_001]
            assert file.read().equals(table)


class TestFolders:
    NAMES = ("b/2", "b/1", "a", "b.x", "b/c/d/e", "Z", "é", "b-1/x", "\ufffd", "😀")

    def _fill(self, place: Location) -> None:
        for name in self.NAMES:
            (place / name).write_bytes(name.encode())

    def test_files_come_by_their_path_as_text(self, place: Location) -> None:
        self._fill(place)
        (place.parent / f"{place.name}-sibling").write_bytes(b"not below")

        found = place.files()

        # The order of an object store: by the bytes of the path.
        assert [entry.path for entry in found] == sorted(self.NAMES, key=str.encode)
        assert [entry.size for entry in found] == [len(entry.path.encode()) for entry in found]
        assert [entry.path for entry in (place / "b").files()] == ["1", "2", "c/d/e"]

    def test_children_are_what_lies_directly_inside(self, place: Location) -> None:
        self._fill(place)

        assert place.children() == sorted({name.split("/")[0] for name in self.NAMES})
        assert (place / "b").children() == ["1", "2", "c"]

    def test_nothing_is_an_empty_folder(self, place: Location) -> None:
        (place / "file").write_bytes(b"1")

        for nothing in (place / "missing", place / "file", place / "file/below"):
            assert nothing.children() == []
            assert nothing.files() == []
            nothing.delete_tree()
        assert place.children() == ["file"]

    def test_a_deleted_tree_is_gone_and_its_neighbours_stay(self, place: Location) -> None:
        self._fill(place)

        (place / "b").delete_tree()

        assert place.children() == sorted({"a", "b.x", "Z", "é", "b-1", "\ufffd", "😀"})


class TestFaults:
    def test_they_pass_between_processes(self) -> None:
        for fault in (StorageFault(5, "why"), Changed(116, "changed", "s3://b/k")):
            again = pickle.loads(pickle.dumps(fault))
            assert (type(again), again.errno, again.strerror) == (
                type(fault),
                fault.errno,
                fault.strerror,
            )
