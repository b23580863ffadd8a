"""Sources in an object store: listed once, read as they were listed, like a copy on a disk."""

import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from rayft.data import remote
from rayft.data.fingerprint import digest_files, remembered_digests, source_bytes, store_key
from rayft.data.form import Form
from rayft.data.listing import Listing
from rayft.data.readers import FileRows
from rayft.data.sources import list_source
from rayft.errors import DataError
from rayft.spec.sources import SourceSpec
from rayft.storage import object_store
from rayft.storage.location import FileState, Location, StorageFault
from rayft.transforms.decode import Unreadable

Photos = Callable[..., Path]
SOURCE: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec)


@pytest.fixture
def folder(bucket: Location) -> Location:
    """An empty folder of the bucket."""
    return bucket / uuid4().hex


def _list(**fields: object) -> Listing:
    return list_source(SOURCE.validate_python(fields), base_dir=Path("/nowhere"))


def _refusal(**fields: object) -> str:
    with pytest.raises(DataError) as caught:
        _list(**fields)
    return str(caught.value)


def _upload(root: Path, folder: Location) -> None:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            (folder / str(path.relative_to(root))).write_bytes(path.read_bytes())


def _key(listing: Listing, store_root: Path) -> str:
    digests = digest_files(listing.reader, store_root=Location(str(store_root)))
    form = Form(stored_as="decoded", stored_size=8, resize="crop")
    return store_key(listing, digests, form=form, rows_per_shard=5)


class _Requests:
    """Counts what is asked of the object store, and how much at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        for name in ("stat", "read", "files"):
            monkeypatch.setattr(object_store, name, self._counted(name))

    def _counted(self, name: str) -> Callable[..., object]:
        function = getattr(object_store, name)

        def call(*args: object, **options: object) -> object:
            with self._lock:
                self.made.append(name)
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                return function(*args, **options)
            finally:
                with self._lock:
                    self.at_once -= 1

        return call


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> _Requests:
    return _Requests(monkeypatch)


class TestFolder:
    def test_rows_are_those_of_a_copy_on_a_disk(self, photos: Photos, folder: Location) -> None:
        root = photos(per_class=2)
        (root / "cat" / "00").mkdir()
        for name in ("cat/00/z.png", "cat/.hidden.png", "cat/notes.txt", "__MACOSX/a/b.png"):
            (root / name).parent.mkdir(exist_ok=True, parents=True)
            (root / name).write_bytes(name.encode())
        _upload(root, folder)

        here = _list(kind="folder", path=str(root))
        there = _list(kind="folder", path=str(folder))

        assert there.reader.sources() == here.reader.sources()
        assert "cat/00/z.png" in there.reader.sources()
        assert there.classes == here.classes
        assert there.labels.codes.tolist() == here.labels.codes.tolist()
        assert list(there.reader.read()) == list(here.reader.read())

    def test_one_listing_is_enough(
        self, photos: Photos, folder: Location, requests: _Requests
    ) -> None:
        _upload(photos(per_class=20), folder)

        _list(kind="folder", path=f"{folder}/")

        assert requests.made == ["files"]

    def test_a_part_of_it_travels_and_is_read(self, photos: Photos, folder: Location) -> None:
        _upload(photos(per_class=5), folder)
        reader = _list(kind="folder", path=str(folder)).reader

        part = pickle.loads(pickle.dumps(reader.cut(3, 7)))

        assert list(part.read()) == list(reader.read())[3:7]
        assert len(pickle.dumps(part)) < len(pickle.dumps(reader))

    def test_all_problems_are_told_at_once(self, folder: Location) -> None:
        for name in ("a/notes.txt", "loose.png", "b/1.png"):
            (folder / name).write_bytes(b"x")

        message = _refusal(kind="folder", path=str(folder))

        assert "folders hold no image: a" in message
        assert "outside any class folder: loose.png" in message

    def test_a_missing_folder_is_named(self, folder: Location) -> None:
        assert f"{folder}: there is no such folder" in _refusal(kind="folder", path=str(folder))

    @pytest.mark.parametrize("kind", ["folder", "parquet", "csv", "webdataset"])
    def test_a_missing_bucket_is_told_with_a_way_to_test_it(
        self, bucket: Location, kind: str
    ) -> None:
        message = _refusal(kind=kind, path="s3://no-such-bucket/photos")

        assert "s3://no-such-bucket/photos: it cannot be read" in message
        assert "no bucket s3://no-such-bucket" in message
        assert "aws s3 ls s3://no-such-bucket/" in message

    def test_credentials_that_are_refused_are_told(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: object) -> None:
            raise StorageFault(13, "access to the bucket was refused")

        monkeypatch.setattr(object_store, "files", refuse)

        message = _refusal(kind="folder", path=str(folder))

        assert "access to the bucket was refused" in message
        assert "credentials" in message

    def test_google_storage_has_its_own_command(self) -> None:
        place = Location("gs://shelf/photos")

        assert "gcloud storage ls gs://shelf/" in remote.how_to_test(place)


class TestReading:
    @pytest.fixture
    def listing(self, photos: Photos, folder: Location) -> Listing:
        _upload(photos(per_class=4), folder)
        return _list(kind="folder", path=str(folder))

    def test_an_object_that_changed_stops_it(self, listing: Listing, folder: Location) -> None:
        (folder / "cat/02.png").write_bytes(b"another")

        with pytest.raises(DataError) as caught:
            list(listing.reader.read())

        message = str(caught.value)
        assert f"{folder}/cat/02.png: it changed since it was listed" in message
        assert "run the command again" in message

    def test_an_object_that_vanished_stops_it(self, listing: Listing, folder: Location) -> None:
        (folder / "cat/02.png").delete()

        with pytest.raises(DataError, match=r"cat/02\.png: it vanished since it was listed"):
            list(listing.reader.read())

    def test_rows_before_it_are_given_and_other_reads_end(
        self, listing: Listing, folder: Location
    ) -> None:
        (folder / "cat/03.png").delete()
        rows = listing.reader.read()

        assert all(isinstance(next(rows), bytes) for _ in range(7))
        with pytest.raises(DataError):
            next(rows)

    def test_a_single_rows_fault_is_its_own(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "a/1.png").write_bytes(b"")
        (folder / "b/1.png").write_bytes(b"far too large")
        reader = _list(kind="folder", path=str(folder)).reader

        monkeypatch.setattr("rayft.data.readers.MAX_FILE_BYTES", 5)

        empty, large = reader.read()
        assert empty == b""
        assert isinstance(large, Unreadable)
        assert "at most" in large.reason

    def test_reads_overlap_and_keep_their_order(
        self, photos: Photos, folder: Location, requests: _Requests
    ) -> None:
        root = photos(per_class=30)
        _upload(root, folder)
        listing = _list(kind="folder", path=str(folder))

        contents = list(listing.reader.read())

        assert contents == [(root / path).read_bytes() for path in listing.reader.files()]
        assert 2 <= requests.most_at_once <= remote.READ_THREADS


class TestReadAhead:
    def test_what_is_held_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(remote, "BYTES_AHEAD", 10)
        started: list[int] = []

        def read(item: int) -> int:
            started.append(item)
            return item

        results = remote.read_ahead(read, range(100), size_of=lambda item: 3)
        first = next(results)

        assert first == 0
        assert len(started) <= 4
        assert list(results) == list(range(1, 100))

    def test_one_item_beyond_the_bound_is_still_read(self) -> None:
        huge = remote.BYTES_AHEAD * 2

        assert list(remote.read_ahead(str, range(3), size_of=lambda item: huge)) == ["0", "1", "2"]

    def test_stopping_early_leaves_no_thread_behind(self) -> None:
        before = threading.active_count()
        results: Iterator[str] = remote.read_ahead(str, range(1000), size_of=lambda item: 1)

        next(results)
        results.close()  # type: ignore[attr-defined]

        assert threading.active_count() == before


class TestIdentity:
    def test_the_key_follows_from_the_objects_as_listed(
        self, photos: Photos, folder: Location, tmp_path: Path, requests: _Requests
    ) -> None:
        root = photos(per_class=2)
        _upload(root, folder)
        first = _key(_list(kind="folder", path=str(folder)), tmp_path)
        again = _key(_list(kind="folder", path=str(folder)), tmp_path)
        (folder / "cat/01.png").write_bytes(b"another")
        changed = _key(_list(kind="folder", path=str(folder)), tmp_path)

        assert first == again != changed
        assert first != _key(_list(kind="folder", path=str(root)), tmp_path / "memory")
        assert "read" not in requests.made

    def test_the_same_objects_elsewhere_are_another_source(
        self, photos: Photos, folder: Location, tmp_path: Path
    ) -> None:
        root = photos(per_class=1)
        for name in ("one", "two"):
            _upload(root, folder / name)

        keys = {
            _key(_list(kind="folder", path=f"{folder}/{name}"), tmp_path) for name in ("one", "two")
        }

        assert len(keys) == 2

    @pytest.mark.parametrize("lookups", [0, 64])
    def test_changes_are_seen_by_a_new_listing(
        self,
        photos: Photos,
        folder: Location,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        lookups: int,
    ) -> None:
        monkeypatch.setattr(remote, "LOOKUPS", lookups)
        _upload(photos(per_class=3), folder)
        reader = _list(kind="folder", path=str(folder)).reader
        digests = remembered_digests(reader, store_root=Location(str(tmp_path)))

        assert digests.pending == []
        assert digests.changed() == []
        (folder / "cat/01.png").write_bytes(b"another")
        (folder / "bird/00.png").delete()
        assert digests.changed() == ["bird/00.png", "cat/01.png"]

    def test_its_size_is_known_without_reading(
        self, photos: Photos, folder: Location, tmp_path: Path
    ) -> None:
        root = photos(per_class=2)
        _upload(root, folder)
        reader = _list(kind="folder", path=str(folder)).reader

        digests = remembered_digests(reader, store_root=Location(str(tmp_path)))

        expected = sum(path.stat().st_size for path in root.rglob("*.png"))
        assert source_bytes(reader, digests) == expected


class TestParquet:
    @pytest.fixture
    def files(self, folder: Location, tmp_path: Path) -> Location:
        for number, name in enumerate(("b", "a", ".c", "sub/d")):
            table = pa.table(
                {
                    "image": [f"{name}{row}".encode() for row in range(7)],
                    "label": [f"{(row + number) % 3}" for row in range(7)],
                    "who": ["x", None, "y", "x", "", "y", "x"],
                }
            )
            pq.write_table(table, tmp_path / "file", row_group_size=3)
            (folder / f"{name}.parquet").write_bytes((tmp_path / "file").read_bytes())
        return folder

    @pytest.mark.parametrize("path", ["", "/*.parquet", "/[ab].parquet", "/?.parquet"])
    def test_a_folder_or_a_pattern_means_its_files(self, files: Location, path: str) -> None:
        listing = _list(kind="parquet", path=f"{files}{path}")

        expected = [f"{name}{row}".encode() for name in "ab" for row in range(7)]
        assert list(listing.reader.read()) == expected
        assert listing.reader.sources()[0] == "a.parquet#0"
        assert listing.classes == ("0", "1", "2")

    def test_a_pattern_may_cover_folders(self, files: Location) -> None:
        assert _list(kind="parquet", path=f"{files}/s*/*.parquet").num_rows == 7
        assert _list(kind="parquet", path=f"{files}/sub/d.parquet").num_rows == 7

    def test_groups_are_those_of_a_local_file(self, files: Location, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes((files / "a.parquet").read_bytes())

        here = _list(kind="parquet", path=str(tmp_path / "a.parquet"), group="who").groups
        there = _list(kind="parquet", path=f"{files}/a.parquet", group="who").groups

        assert here is not None
        assert there is not None
        assert here.tolist() == there.tolist()
        assert here[1] == here[4] == 0

    def test_any_range_of_rows_can_be_cut_out(self, files: Location) -> None:
        reader = _list(kind="parquet", path=str(files)).reader
        contents = list(reader.read())

        for start, stop in [(0, 3), (2, 9), (6, 8), (13, 14), (4, 4)]:
            assert (
                list(pickle.loads(pickle.dumps(reader.cut(start, stop))).read())
                == (contents[start:stop])
            )

    @pytest.mark.parametrize("change", ["changed", "vanished"])
    def test_a_file_that_is_not_as_listed_stops_it(self, files: Location, change: str) -> None:
        reader = _list(kind="parquet", path=f"{files}/a.parquet").reader
        if change == "changed":
            (files / "a.parquet").write_bytes((files / "b.parquet").read_bytes())
        else:
            (files / "a.parquet").delete()

        with pytest.raises(DataError, match=rf"a\.parquet: it {change} since it was listed"):
            list(reader.read())

    def test_a_file_that_changes_between_two_reads_of_it_stops_it(self, files: Location) -> None:
        reader = _list(kind="parquet", path=f"{files}/a.parquet").reader
        rows = reader.read()
        assert next(rows) == b"a0"
        (files / "a.parquet").write_bytes((files / "b.parquet").read_bytes())

        # What was fetched before the change may still be given, what is new may not.
        with pytest.raises(DataError, match="changed since it was listed"):
            assert list(reader.read()) == [f"a{row}".encode() for row in range(7)]

    def test_damage_and_absence_are_named(self, folder: Location) -> None:
        (folder / "bad.parquet").write_bytes(b"PAR1 and no more")

        assert "bad.parquet: it is no parquet file" in _refusal(
            kind="parquet", path=f"{folder}/bad.parquet"
        )
        assert "no parquet file is there" in _refusal(kind="parquet", path=f"{folder}/no-*")

    def test_labels_cost_no_image_bytes(
        self, folder: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = [bytes([row]) * 500_000 for row in range(20)]
        table = pa.table({"image": image, "label": [str(row % 2) for row in range(20)]})
        pq.write_table(table, tmp_path / "f", row_group_size=5, compression="none")
        (folder / "f.parquet").write_bytes((tmp_path / "f").read_bytes())
        fetched: list[int] = []
        monkeypatch.setattr(
            "rayft.storage.ranges.read_range", _counted_range(fetched), raising=True
        )

        listing = _list(kind="parquet", path=f"{folder}/f.parquet")

        assert listing.num_rows == 20
        assert sum(fetched) < 1_000_000


def _counted_range(fetched: list[int]) -> Callable[..., bytes]:
    from rayft.storage.ranges import read_range

    def call(place: Location, start: int, length: int, *, version: str) -> bytes:
        content = read_range(place, start, length, version=version)
        fetched.append(len(content))
        return content

    return call


class TestCsv:
    @pytest.fixture
    def root(self, photos: Photos, folder: Location) -> Location:
        _upload(photos(per_class=2), folder / "photos")
        return folder / "photos"

    def test_images_lie_beside_the_manifest(self, root: Location) -> None:
        lines = ["image,label", "cat/00.png,c", "./bird//01.png,b", f"{root}/cat/01.png,c"]
        (root / "list.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))

        listing = _list(kind="csv", path=f"{root}/list.csv")

        assert listing.reader.sources() == ["cat/00.png", "bird/01.png", "cat/01.png"]
        assert all(isinstance(content, bytes) for content in listing.reader.read())

    def test_a_local_manifest_may_name_images_there(self, root: Location, tmp_path: Path) -> None:
        (tmp_path / "list.csv").write_text("image,label\ncat/00.png,c\nbird/00.png,b\n")

        listing = _list(kind="csv", path=str(tmp_path / "list.csv"), root=str(root))

        assert all(isinstance(content, bytes) for content in listing.reader.read())

    @pytest.mark.parametrize("lookups", [0, 64])
    def test_missing_images_are_rows_that_cannot_be_read(
        self, root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lookups: int
    ) -> None:
        monkeypatch.setattr(remote, "LOOKUPS", lookups)
        (root / "list.csv").write_bytes(b"image,label\ncat/00.png,c\ncat/no.png,c\nbird/00.png,b\n")

        reader = _list(kind="csv", path=f"{root}/list.csv").reader

        assert isinstance(reader, FileRows)
        contents = list(reader.read())
        assert contents[1] == Unreadable("it does not exist")
        assert isinstance(contents[2], bytes)
        digests = remembered_digests(reader, store_root=Location(str(tmp_path)))
        assert digests.unreadable == {"cat/no.png": "it does not exist"}

    def test_rows_are_not_looked_up_one_by_one(self, root: Location, requests: _Requests) -> None:
        lines = ["image,label", *(f"cat/{number:03d}.png,c" for number in range(100))]
        (root / "list.csv").write_bytes("\n".join(lines).encode())

        _list(kind="csv", path=f"{root}/list.csv")

        assert sorted(requests.made) == ["files", "read"]

    def test_paths_outside_the_root_are_refused(self, root: Location) -> None:
        lines = ["image,label", "../x.png,c", "/etc/passwd,c", "s3://other/a.png,b", ",b"]
        (root / "list.csv").write_bytes("\n".join(lines).encode())

        message = _refusal(kind="csv", path=f"{root}/list.csv")

        assert f"4 paths do not lie inside {root}" in message
        assert "row 2: 's3://other/a.png', row 3: no path" in message

    def test_a_missing_manifest_is_named(self, root: Location) -> None:
        message = _refusal(kind="csv", path=f"{root}/no.csv")

        assert f"{root}/no.csv: it cannot be read: there is no such object" in message
        assert "check the source's `path`" in message


def test_an_address_of_another_kind_is_refused() -> None:
    for kind in ("folder", "parquet", "csv", "webdataset"):
        assert "of a kind that cannot be reached" in _refusal(kind=kind, path="hdfs://x/y")


def test_file_addresses_mean_this_machine(photos: Photos, tmp_path: Path) -> None:
    root = photos(per_class=1)
    pq.write_table(pa.table({"image": [b"1"], "label": ["a"]}), tmp_path / "a.parquet")

    assert _list(kind="folder", path=f"file://{root}").reader.root == Location(str(root))
    assert _list(kind="parquet", path=f"file://{tmp_path}/*.parquet").num_rows == 1


def test_states_survive_a_reader_without_version(bucket: Location) -> None:
    place = bucket / uuid4().hex
    place.write_bytes(b"x")
    reader = FileRows(
        root=place.parent, paths=(place.name,), confined=True, listed=(FileState(1, ""),)
    )

    assert list(reader.read()) == [b"x"]
