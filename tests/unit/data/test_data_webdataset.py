"""WebDataset samples in tar files, on a disk and in an object store."""

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from rayft.data import tar_index, tar_rows
from rayft.data.fingerprint import digest_files, store_key
from rayft.data.form import Form
from rayft.data.inspect import inspect_path
from rayft.data.listing import Listing
from rayft.data.sources import list_source
from rayft.data.tar_index import Wanted, index_tar
from rayft.errors import DataError
from rayft.spec.sources import SourceSpec
from rayft.storage import ranges
from rayft.storage.location import FileState, Location
from rayft.transforms.decode import Unreadable

ImageFile = Callable[..., bytes]
Members = list[tuple[str, bytes]]
SOURCE: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec)
WANTED = Wanted(images=("jpg", "png"), label="cls", label_key=None)


def _tar(members: Members, *, kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _samples(start: int, stop: int) -> Members:
    return [
        member
        for row in range(start, stop)
        for member in (
            (f"{row:04d}.cls", b"%d\n" % (row % 3)),
            (f"{row:04d}.jpg", b"image %d" % row),
        )
    ]


def _expected(start: int, stop: int) -> list[bytes]:
    return [b"image %d" % row for row in range(start, stop)]


def _list(memory: Location | None = None, **fields: object) -> Listing:
    spec = SOURCE.validate_python({"kind": "webdataset", **fields})
    return list_source(spec, base_dir=Path("/nowhere"), memory=memory)


def _refusal(**fields: object) -> str:
    with pytest.raises(DataError) as caught:
        _list(**fields)
    return str(caught.value)


def _labels(listing: Listing) -> list[str]:
    return [listing.classes[code] for code in listing.labels.codes]


@pytest.fixture
def shards(place: Location) -> Location:
    """A folder with three tar files of 4, 5 and 3 samples."""
    for name, start, stop in (("s-001", 4, 9), ("s-000", 0, 4), ("s-002", 9, 12)):
        (place / f"{name}.tar").write_bytes(_tar(_samples(start, stop)))
    (place / "notes.txt").write_bytes(b"x")
    return place


class TestRows:
    @pytest.mark.parametrize(
        "path", ["", "/*.tar", "/s-{000..002}.tar", "/s-{002,000,001}.tar", "/s-00{0..2}.tar"]
    )
    def test_they_follow_from_the_names_of_files_and_the_order_of_members(
        self, shards: Location, path: str
    ) -> None:
        listing = _list(path=f"{shards}{path}")

        assert list(listing.reader.read()) == _expected(0, 12)
        assert _labels(listing) == [str(row % 3) for row in range(12)]
        assert listing.reader.sources()[3:5] == ["s-000.tar#0003", "s-001.tar#0004"]
        assert listing.reader.files() == ["s-000.tar", "s-001.tar", "s-002.tar"]

    def test_any_range_of_rows_can_be_cut_out_and_sent(self, shards: Location) -> None:
        reader = _list(path=str(shards)).reader

        for start, stop in [(0, 12), (3, 5), (2, 10), (11, 12), (5, 5)]:
            part = pickle.loads(pickle.dumps(reader.cut(start, stop)))
            assert list(part.read()) == _expected(start, stop)
        assert list(reader.cut(2, 10).cut(1, 4).read()) == _expected(3, 6)
        assert len(pickle.dumps(reader.cut(4, 5))) < len(pickle.dumps(reader))

    def test_one_file_is_enough(self, shards: Location) -> None:
        assert _list(path=f"{shards}/s-002.tar").reader.sources()[0] == "s-002.tar#0009"

    def test_members_are_grouped_up_to_the_first_dot(self, place: Location) -> None:
        members = [
            ("./a/x.1.seg.png", b"mask"), ("./a/x.cls", b"c"), ("./a/x.JPG", b"image"),
            ("a/.hidden.jpg", b"x"), ("__meta__/y.jpg", b"x"), ("README", b"x"),
            ("a/y.jpeg", b"later"), ("a/y.png", b"png"), ("a/y.cls", b" d \n"),
        ]  # fmt: skip
        (place / "a.tar").write_bytes(_tar(members))

        listing = _list(path=f"{place}/a.tar")

        assert listing.reader.sources() == ["a.tar#a/x", "a.tar#a/y"]
        assert list(listing.reader.read()) == [b"image", b"later"]
        assert _labels(listing) == ["c", "d"]

    def test_the_order_of_extensions_decides(self, place: Location) -> None:
        (place / "a.tar").write_bytes(_tar([("1.jpg", b"j"), ("1.png", b"p"), ("1.cls", b"x")]))

        assert list(_list(path=f"{place}/a.tar", image="png;jpg").reader.read()) == [b"p"]
        assert list(_list(path=f"{place}/a.tar", image=".JPG").reader.read()) == [b"j"]

    @pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    def test_every_kind_of_header_is_read(self, place: Location, kind: int) -> None:
        long = "d/" * 40 + "x" * (60 if kind == tarfile.USTAR_FORMAT else 200)
        odd = "plain" if kind == tarfile.USTAR_FORMAT else "ü\n🐈"
        members = [
            (f"{name}.{end}", end.encode()) for name in (long, odd) for end in ("jpg", "cls")
        ]
        (place / "a.tar").write_bytes(_tar(members, kind=kind))

        listing = _list(path=f"{place}/a.tar")

        assert listing.reader.sources() == [f"a.tar#{long}", f"a.tar#{odd}"]
        assert list(listing.reader.read()) == [b"jpg"] * 2

    def test_folders_inside_are_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        for name, content in _samples(0, 3):
            (tmp_path / "data" / name).write_bytes(content)
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.add(tmp_path / "data", "data")

        assert sorted(_list(path=str(tmp_path / "a.tar")).reader.read()) == _expected(0, 3)

    def test_a_sample_without_image_is_a_row_that_cannot_be_read(self, place: Location) -> None:
        members = [*_samples(0, 2), ("x.cls", b"0"), *_samples(2, 3)]
        (place / "a.tar").write_bytes(_tar(members))

        rows = list(_list(path=f"{place}/a.tar").reader.read())

        reason = "the sample has no member that ends with jpg or jpeg or png or webp"
        assert rows == [b"image 0", b"image 1", Unreadable(reason), b"image 2"]

    def test_an_image_that_is_too_large_is_its_own_fault(
        self, place: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        members = [("1.jpg", b"small"), ("1.cls", b"a"), ("2.jpg", b"x" * 99), ("2.cls", b"a")]
        (place / "a.tar").write_bytes(_tar(members))
        monkeypatch.setattr(tar_rows, "MAX_FILE_BYTES", 50)

        small, large = _list(path=f"{place}/a.tar").reader.read()

        assert small == b"small"
        assert isinstance(large, Unreadable)


class TestLabels:
    def _write(self, place: Location, *objects: bytes) -> str:
        members = []
        for row, content in enumerate(objects):
            members += [(f"{row}.jpg", b"image"), (f"{row}.json", content)]
        (place / "a.tar").write_bytes(_tar(members))
        return f"{place}/a.tar"

    def test_they_may_stand_in_json(self, place: Location) -> None:
        values = [7, "10", "cat ", True]
        path = self._write(place, *(json.dumps({"class": v, "w": 1.5}).encode() for v in values))

        listing = _list(path=path, label="json", label_key="class")

        assert _labels(listing) == ["7", "10", "cat", "true"]

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (b"{", "1.json (it is no JSON object)"),
            (b"[1]", "1.json (it is no JSON object)"),
            (b"[" * 100_000, "1.json (it is no JSON object)"),
            (b'{"class": 1.5}', "1.json (its 'class' is a float)"),
            (b'{"class": [1]}', "1.json (its 'class' is a list)"),
            (b"\xff\xfe", "1.json (it is no UTF-8 text)"),
            (b" " * (2**20 + 1), "1.json (it has more than 1,048,576 bytes)"),
        ],
    )
    def test_those_that_cannot_be_told_are_named(
        self, place: Location, content: bytes, fault: str
    ) -> None:
        path = self._write(place, b'{"class": 1}', content)

        message = _refusal(path=path, label="json", label_key="class")

        assert f"a.tar: 1 labels cannot be told: {fault}" in message

    @pytest.mark.parametrize("content", [b"{}", b'{"class": null}', b'{"class": " "}'])
    def test_those_that_are_missing_are_named(self, place: Location, content: bytes) -> None:
        path = self._write(place, b'{"class": 1}', content)

        message = _refusal(path=path, label="json", label_key="class")

        assert "1 rows have no label: a.tar#1" in message

    def test_a_wrong_extension_is_told_with_those_there_are(self, place: Location) -> None:
        path = self._write(place, b"{}")

        message = _refusal(path=path, image="tif", label="txt")

        assert "no sample has an image: a member that ends with tif; " in message
        assert "no sample has a label: txt; members end with: jpg, json" in message
        assert message.count("fix:") == 2

    def test_a_wrong_key_is_told(self, place: Location) -> None:
        path = self._write(place, b'{"klass": 1}')

        message = _refusal(path=path, label="json", label_key="class")

        assert "no sample has a label: json `class`" in message


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "fault"),
        [("/etc/x.jpg", "an absolute path"), ("a/../../x.jpg", "a path with `..`")],
    )
    def test_names_that_leave_the_file(self, place: Location, name: str, fault: str) -> None:
        (place / "a.tar").write_bytes(_tar([*_samples(0, 2), (name, b"x")]))

        message = _refusal(path=f"{place}/a.tar")

        assert f"{place}/a.tar: 1 members do not belong there: {name} ({fault})" in message

    @pytest.mark.parametrize(
        ("kind", "fault"),
        [
            (tarfile.SYMTYPE, "a symbolic link"),
            (tarfile.LNKTYPE, "a link"),
            (tarfile.CHRTYPE, "a device"),
            (tarfile.FIFOTYPE, "a pipe"),
        ],
    )
    def test_members_that_are_no_files(self, tmp_path: Path, kind: bytes, fault: str) -> None:
        member = tarfile.TarInfo("x.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.addfile(member)

        assert f"x.jpg ({fault})" in _refusal(path=f"{tmp_path}/a.tar")

    def test_members_with_holes(self, tmp_path: Path) -> None:
        member = tarfile.TarInfo("x.jpg")
        member.pax_headers = {"GNU.sparse.size": "3", "GNU.sparse.map": "0,3"}
        with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(member)

        assert "x.jpg (a sparse file)" in _refusal(path=f"{tmp_path}/a.tar")

    def test_samples_that_are_scattered(self, place: Location) -> None:
        members = _samples(0, 3)
        (place / "a.tar").write_bytes(_tar(sorted(members, key=lambda m: m[0][-3:])))
        (place / "b.tar").write_bytes(_tar([*members, *members[-2:]]))

        for name, names in (("a", "0000, 0001, 0002"), ("b", "0002")):
            message = _refusal(path=f"{place}/{name}.tar")
            assert "do not stand side by side, or are there twice" in message
            assert names in message
            assert "--sort=name" in message

    @pytest.mark.parametrize("content", [b"", b"<html>" * 200, b"x" * 100])
    def test_what_is_no_tar_file(self, place: Location, content: bytes) -> None:
        (place / "a.tar").write_bytes(content)

        message = _refusal(path=f"{place}/a.tar")

        assert f"{place}/a.tar: " in message
        assert "empty" in message or "no tar file" in message

    def test_packed_files(self, place: Location) -> None:
        (place / "a.tar").write_bytes(gzip.compress(_tar(_samples(0, 2))))

        assert "it is packed with gzip" in _refusal(path=f"{place}/a.tar")
        assert "unpack them to plain .tar files" in _refusal(path=f"{place}/a.tar.gz")

    @pytest.mark.parametrize("cut", [100, 512, 1024, 1500, 4096, -10_240, -9_000])
    def test_a_file_that_is_cut_short(self, place: Location, cut: int) -> None:
        content = _tar([*_samples(0, 4), ("x.jpg", b"x" * 9000), ("x.cls", b"1")])
        (place / "a.tar").write_bytes(content[:cut])

        message = _refusal(path=f"{place}/a.tar")

        assert f"{place}/a.tar: " in message
        assert "cut short" in message or (cut == 100 and "no tar file" in message)

    def test_damage_in_its_middle(self, place: Location) -> None:
        content = bytearray(_tar(_samples(0, 4)))
        content[2048 + 148] ^= 0xFF
        (place / "a.tar").write_bytes(bytes(content))

        assert "damaged at byte 2,048" in _refusal(path=f"{place}/a.tar")

    def test_a_member_that_claims_a_negative_size(self, tmp_path: Path) -> None:
        member = tarfile.TarInfo("x.jpg")
        header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
        header[124:136] = b"\xff" * 11 + b"\x00"
        header[148:156] = b"        "
        header[148:156] = b"%06o\0 " % sum(header)
        content = _tar(_samples(0, 2))
        (tmp_path / "a.tar").write_bytes(bytes(header) + content)

        assert "damaged" in _refusal(path=f"{tmp_path}/a.tar")

    def test_missing_files_of_a_range(self, shards: Location) -> None:
        message = _refusal(path=f"{shards}/s-{{000..009}}.tar")

        assert "7 of 10 files are missing" in message
        assert f"{shards}/s-003.tar" in message
        assert "and 2 more" in message

    def test_nothing_there_and_nothing_inside(self, place: Location) -> None:
        (place / "a.tar").write_bytes(_tar([("README", b"x")]))

        assert "it has no sample" in _refusal(path=f"{place}/a.tar")
        assert "no tar file is there" in _refusal(path=f"{place}/b*.tar")
        assert "no tar file is there" in _refusal(path=f"{place}/b.tar")

    def test_a_range_that_stands_for_too_much(self, tmp_path: Path) -> None:
        path = f"{tmp_path}/{{0..99999}}-{{0..99999}}.tar"

        assert "more than 1,000,000 names" in _refusal(path=path)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    canary = pickle.dumps(_Canary(str(tmp_path / "alive")))
    members = [
        ("0.jpg", b"image"), ("0.cls", b"1"), ("0.pyd", canary), ("0.pkl", canary),
        ("0.pth", canary), ("0.pickle", canary),
    ]  # fmt: skip
    (tmp_path / "a.tar").write_bytes(_tar(members))

    listing = _list(path=str(tmp_path / "a.tar"))
    as_image = _list(path=str(tmp_path / "a.tar"), image="pkl")

    assert list(listing.reader.read()) == [b"image"]
    assert list(as_image.reader.read()) == [canary]
    assert "labels cannot be told" in _refusal(path=str(tmp_path / "a.tar"), label="pyd")
    assert not (tmp_path / "alive").exists()
    pickle.loads(canary)
    assert (tmp_path / "alive").exists()


class _Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path(self.path).mkdir, ()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=24))),
    stop=st.integers(0, 12_000),
)
def test_hostile_bytes_give_samples_or_a_refusal(
    tmp_path: Path, changes: list[tuple[int, bytes]], stop: int
) -> None:
    content = bytearray(_tar([*_samples(0, 3), ("é" * 120 + ".jpg", b"x"), ("y.cls", b"1")]))
    for start, piece in changes:
        content[start : start + len(piece)] = piece
    path = tmp_path / "a.tar"
    path.write_bytes(content[:stop] if stop < 10_240 else content)

    index = None
    with suppress(DataError):
        index = index_tar(Location(str(path)), None, WANTED)

    if index is not None:
        size = path.stat().st_size
        places = zip(index.offsets, index.sizes, strict=True)
        assert all(offset == -1 or 0 < offset + length <= size for offset, length in places)


class TestIdentity:
    def _key(self, place: Location, tmp_path: Path, **fields: object) -> str:
        listing = _list(path=f"{place}", **fields)
        digests = digest_files(listing.reader, store_root=Location(str(tmp_path / "memory")))
        form = Form(stored_as="decoded", stored_size=8, resize="crop")
        return store_key(listing, digests, form=form, rows_per_shard=9)

    def test_it_follows_from_content_and_from_the_members_that_count(
        self, place: Location, tmp_path: Path
    ) -> None:
        members = [("1.jpg", b"j"), ("1.png", b"p"), ("1.cls", b"x")]
        (place / "a.tar").write_bytes(_tar(members))

        first = self._key(place, tmp_path)
        assert first == self._key(place, tmp_path)
        assert first != self._key(place, tmp_path, image="png")
        (place / "a.tar").write_bytes(_tar([("1.jpg", b"k"), *members[1:]]))
        assert first != self._key(place, tmp_path)

    def test_a_local_copy_has_the_same_key(self, tmp_path: Path) -> None:
        keys = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.tar").write_bytes(_tar(_samples(0, 3)))
            keys.append(self._key(Location(str(tmp_path / name)), tmp_path))

        assert keys[0] == keys[1]

    def test_a_local_file_that_is_cut_short_after_listing_stops_it(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(_tar(_samples(0, 3)))
        reader = _list(path=str(tmp_path)).reader
        (tmp_path / "a.tar").write_bytes(_tar(_samples(0, 3))[:1500])

        with pytest.raises(DataError, match=r"a\.tar: it was cut short since it was listed"):
            list(reader.read())


class TestObjectStore:
    @pytest.fixture
    def folder(self, bucket: Location) -> Location:
        return bucket / uuid4().hex

    @pytest.fixture
    def fetched(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The bytes of each request."""
        sizes: list[int] = []
        read_range = ranges.read_range

        def call(place: Location, start: int, length: int, *, version: str) -> bytes:
            content = read_range(place, start, length, version=version)
            sizes.append(len(content))
            return content

        monkeypatch.setattr(ranges, "read_range", call)
        monkeypatch.setattr(tar_rows, "read_range", call)
        return sizes

    def test_images_side_by_side_are_fetched_together(
        self, folder: Location, fetched: list[int]
    ) -> None:
        (folder / "a.tar").write_bytes(_tar(_samples(0, 50)))
        reader = _list(path=str(folder)).reader
        fetched.clear()

        assert list(reader.cut(10, 40).read()) == _expected(10, 40)
        assert len(fetched) == 1

    def test_images_far_apart_are_fetched_alone(
        self, folder: Location, fetched: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tar_rows, "GAP_BYTES", 10_000)
        members = []
        for row in range(6):
            members += [(f"{row}.jpg", b"image %d" % row), (f"{row}.cls", b"1")]
            members += [(f"{row}.npy", bytes(50_000))] if row % 2 else []
        (folder / "a.tar").write_bytes(_tar(members))
        reader = _list(path=str(folder)).reader
        fetched.clear()

        assert list(reader.read()) == _expected(0, 6)
        assert len(fetched) == 3
        assert sum(fetched) < 10_000

    def test_large_members_are_passed_over_by_the_index(
        self, folder: Location, fetched: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ranges, "BLOCK_BYTES", 10_000)
        members = []
        for row in range(4):
            members += [(f"{row}.mp4", bytes(300_000)), (f"{row}.jpg", b"j"), (f"{row}.cls", b"1")]
        (folder / "a.tar").write_bytes(_tar(members))

        assert _list(path=str(folder)).num_rows == 4
        assert sum(fetched) < 500_000

    @pytest.mark.parametrize("change", ["changed", "vanished"])
    def test_a_file_that_is_not_as_listed_stops_it(self, folder: Location, change: str) -> None:
        (folder / "a.tar").write_bytes(_tar(_samples(0, 5)))
        reader = _list(path=str(folder)).reader
        if change == "changed":
            (folder / "a.tar").write_bytes(_tar(_samples(5, 10)))
        else:
            (folder / "a.tar").delete()

        with pytest.raises(DataError, match=rf"a\.tar: it {change} since it was listed"):
            list(reader.read())

    def test_a_file_that_changes_while_it_is_indexed_stops_it(self, folder: Location) -> None:
        (folder / "a.tar").write_bytes(_tar(_samples(0, 5)))
        state = (folder / "a.tar").stat()
        assert state is not None
        (folder / "a.tar").write_bytes(_tar(_samples(5, 10)))

        with pytest.raises(DataError, match="changed since it was listed"):
            index_tar(folder / "a.tar", FileState(state.size, state.version), WANTED)

    def test_an_index_is_remembered_by_the_objects_version(
        self, folder: Location, tmp_path: Path, fetched: list[int]
    ) -> None:
        memory = Location(str(tmp_path / "memory"))
        (folder / "a.tar").write_bytes(_tar(_samples(0, 5)))
        first = _list(memory, path=str(folder))
        fetched.clear()

        again = _list(memory, path=str(folder))
        assert fetched == []
        assert again.reader.sources() == first.reader.sources()
        assert list(again.reader.read()) == _expected(0, 5)

        (folder / "a.tar").write_bytes(_tar(_samples(5, 10)))
        assert list(_list(memory, path=str(folder)).reader.read()) == _expected(5, 10)

    def test_a_local_index_is_remembered_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory = Location(str(tmp_path / "memory"))
        (tmp_path / "a.tar").write_bytes(_tar(_samples(0, 5)))
        _list(memory, path=str(tmp_path / "a.tar"))

        with monkeypatch.context() as patch:
            patch.setattr("rayft.data.webdataset_source.index_tar", pytest.fail)
            again = _list(memory, path=str(tmp_path / "a.tar"))
        assert list(again.reader.read()) == _expected(0, 5)

        (tmp_path / "a.tar").write_bytes(_tar(_samples(5, 11)))
        assert _list(memory, path=str(tmp_path / "a.tar")).num_rows == 6

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"wrong": 1}'])
    def test_a_damaged_memory_is_not_trusted(
        self, folder: Location, tmp_path: Path, content: bytes
    ) -> None:
        memory = Location(str(tmp_path / "memory"))
        (folder / "a.tar").write_bytes(_tar(_samples(0, 5)))
        _list(memory, path=str(folder))
        for path in (tmp_path / "memory").iterdir():
            path.write_bytes(content)

        assert list(_list(memory, path=str(folder)).reader.read()) == _expected(0, 5)

    def test_several_buckets_are_refused(self) -> None:
        assert "names no bucket" in _refusal(path="s3://{one,two}/a.tar")


class TestStreamedFile:
    def test_it_reads_as_a_file_does(
        self, bucket: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ranges, "BLOCK_BYTES", 100)
        content = bytes(range(256)) * 5
        place = bucket / uuid4().hex
        place.write_bytes(content)
        state = place.stat()
        assert state is not None
        local = io.BytesIO(content)
        with ranges.StreamedFile(place.bucket, place.key, state) as file:
            for offset, length in [(0, 10), (95, 20), (700, 350), (0, 5), (1270, 50), (2000, 9)]:
                assert file.seek(offset) == local.seek(offset)
                assert file.read(length) == local.read(length)
                assert file.tell() in (local.tell(), offset)
                assert len(file._blocks) <= ranges.BLOCKS_AHEAD + 2
            file.seek(-7, io.SEEK_END)
            assert file.read() == content[-7:]


class TestInspect:
    def test_a_folder_of_tar_files_is_told(self, tmp_path: Path, image_file: ImageFile) -> None:
        for name in ("train-000", "train-001", "val-000"):
            members = []
            for row in range(4):
                members += [(f"{row}.png", image_file(row)), (f"{row}.cls", b"%d" % (row % 2))]
            (tmp_path / f"{name}.tar").write_bytes(_tar(members))

        found = inspect_path(tmp_path)

        assert found.sources == {
            "train": {"kind": "webdataset", "path": f"{tmp_path}/train*.tar"},
            "validation": {"kind": "webdataset", "path": f"{tmp_path}/val-000.tar"},
        }
        assert found.num_rows == {"train": 8, "validation": 4}
        assert found.typical_size == (12, 10)

    def test_files_without_a_split_are_one_source(
        self, tmp_path: Path, image_file: ImageFile
    ) -> None:
        for name in ("a", "b"):
            members = [(f"{name}.bmp", image_file(kind="BMP")), (f"{name}.cls", name.encode())]
            (tmp_path / f"{name}.tar").write_bytes(_tar(members))

        found = inspect_path(tmp_path)

        assert found.sources["train"] == {
            "kind": "webdataset", "path": str(tmp_path), "image": "bmp",
        }  # fmt: skip

    def test_labels_in_json_are_told_by_the_usual_names(
        self, tmp_path: Path, image_file: ImageFile
    ) -> None:
        members: Members = []
        for row in range(2):
            text = json.dumps({"width": 3, "Label": f"class {row}"}).encode()
            members += [(f"{row}.jpg", image_file(kind="JPEG")), (f"{row}.json", text)]
        (tmp_path / "a.tar").write_bytes(_tar(members))

        fields = inspect_path(tmp_path / "a.tar").sources["train"]

        assert (fields["label"], fields["label_key"]) == ("json", "Label")

    def test_what_cannot_be_told_is_listed(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(_tar([("1.jpg", b"x"), ("1.txt", b"a caption")]))

        with pytest.raises(DataError, match="can be told among those that end with: jpg, txt"):
            inspect_path(tmp_path)


def test_the_walk_keeps_no_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(_tar(_samples(0, 40)))
    most = 0
    following = tarfile.TarFile.next

    def call(self: tarfile.TarFile) -> tarfile.TarInfo | None:
        nonlocal most
        found = following(self)
        most = max(most, len(self.members))
        return found

    monkeypatch.setattr(tar_index.tarfile.TarFile, "next", call)

    assert _list(path=str(tmp_path)).num_rows == 40
    assert most <= 1
