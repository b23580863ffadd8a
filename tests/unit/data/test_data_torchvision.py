"""Torchvision's data sets, in small files of its own formats."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from rayft.data.fingerprint import digest_files, remembered_digests, store_key
from rayft.data.form import Form
from rayft.data.listing import Listing
from rayft.data.readers import FileRows, ValueRows
from rayft.data.sources import list_source
from rayft.errors import DataError
from rayft.spec.sources import TorchvisionSource
from rayft.storage.location import Location
from rayft.transforms.decode import Unreadable

ImageFile = Callable[..., bytes]
NAMES = ["airplane", "bird", "cat"]
CLOSED = "http://127.0.0.1:9/"


def _list(root: Path | str, name: str, split: str = "train", **fields: object) -> Listing:
    fields = {"kind": "torchvision", "name": name, "root": str(root), "split": split, **fields}
    return list_source(TorchvisionSource.model_validate(fields), base_dir=Path("/nowhere"))


def _refusal(root: Path | str, name: str, split: str = "train", **fields: object) -> str:
    with pytest.raises(DataError) as caught:
        _list(root, name, split, **fields)
    return str(caught.value)


def _labels(listing: Listing) -> list[str]:
    return [listing.classes[code] for code in listing.labels.codes]


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class TestCifar:
    """Files in CIFAR-10's format, and torchvision told that these are the published ones."""

    @pytest.fixture
    def files(self) -> dict[str, bytes]:
        generator = np.random.default_rng(0)

        def batch(count: int) -> bytes:
            data = generator.integers(0, 256, (count, 3072), np.uint8)
            labels = generator.integers(0, 3, count).tolist()
            return pickle.dumps({"data": data, "labels": labels})

        return {
            "data_batch_1": batch(7),
            "data_batch_2": batch(5),
            "test_batch": batch(4),
            "batches.meta": pickle.dumps({"label_names": NAMES}),
        }

    @pytest.fixture
    def root(
        self, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Path:
        kind = datasets.CIFAR10
        md5 = {name: _md5(content) for name, content in files.items()}
        train = [[name, md5[name]] for name in ("data_batch_1", "data_batch_2")]
        monkeypatch.setattr(kind, "train_list", train)
        monkeypatch.setattr(kind, "test_list", [["test_batch", md5["test_batch"]]])
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5["batches.meta"]})
        for name, content in files.items():
            path = tmp_path / "sets" / kind.base_folder / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(content)
        return tmp_path / "sets"

    def test_rows_are_those_that_torchvision_gives(self, root: Path) -> None:
        for split, count in (("train", 12), ("test", 4)):
            listing = _list(root, "CIFAR10", split)
            theirs = datasets.CIFAR10(str(root), train=split == "train")

            assert listing.num_rows == count
            assert set(listing.classes) <= set(NAMES)
            for row, (image, (picture, number)) in enumerate(
                zip(listing.reader.read(), theirs, strict=True)
            ):
                assert isinstance(image, np.ndarray)
                assert np.array_equal(image, np.asarray(picture))
                assert _labels(listing)[row] == NAMES[number]

    def test_a_shard_travels_with_its_own_rows_only(self, root: Path) -> None:
        reader = _list(root, "CIFAR10").reader

        part = pickle.loads(pickle.dumps(reader.cut(3, 5)))

        assert isinstance(part, ValueRows)
        assert part.sources() == ["row#3", "row#4"]
        assert np.array_equal(list(part.read()), list(reader.read())[3:5])
        assert len(pickle.dumps(part)) < 2 * 3072 + 1000

    def test_a_row_changes_the_key(self, root: Path, tmp_path: Path) -> None:
        def key(split: str) -> str:
            listing = _list(root, "CIFAR10", split)
            digests = digest_files(listing.reader, store_root=Location(str(tmp_path)))
            form = Form(stored_as="decoded", stored_size=8, resize="crop")
            return store_key(listing, digests, form=form, rows_per_shard=9)

        assert key("train") == key("train") != key("test")

    @pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_changed_file_is_refused_before_anything_is_unpickled(
        self, root: Path, tmp_path: Path, name: str, split: str
    ) -> None:
        canary = pickle.dumps(_Canary(str(tmp_path / "alive")))
        pickle.loads(canary)
        assert (tmp_path / "alive").exists()
        (tmp_path / "alive").rmdir()
        (root / "cifar-10-batches-py" / name).write_bytes(canary)

        message = _refusal(root, "CIFAR10", split)

        assert "not the published ones, and were not opened" in message
        assert f"cifar-10-batches-py/{name}" in message
        assert not (tmp_path / "alive").exists()

    def test_the_published_hashes_are_asked_for_without_our_help(self, tmp_path: Path) -> None:
        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        kind = datasets.CIFAR10
        for name, _ in [*kind.train_list, *kind.test_list, ("batches.meta", "")]:
            (folder / name).write_bytes(pickle.dumps(_Canary(str(tmp_path / "alive"))))

        assert "were not opened" in _refusal(tmp_path, "CIFAR10")
        assert not (tmp_path / "alive").exists()

    def test_missing_files_are_named_with_both_ways_to_get_them(
        self, root: Path, tmp_path: Path
    ) -> None:
        (root / "cifar-10-batches-py" / "test_batch").unlink()

        message = _refusal(root, "CIFAR10")

        assert f"CIFAR10 in {root}: files are missing: cifar-10-batches-py/test_batch" in message
        assert "`download: true`" in message
        assert "torchvision.datasets.CIFAR10(root, download=True)" in message

    def test_a_download_brings_the_files(
        self,
        root: Path,
        files: dict[str, bytes],
        tmp_path: Path,
        serve: Callable[[dict[str, bytes]], str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        address = serve({"cifar.tar.gz": archive.getvalue()})
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/cifar.tar.gz")
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", _md5(archive.getvalue()))
        (root / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"damaged")

        assert _list(tmp_path / "new", "CIFAR10", download=True).num_rows == 12
        assert _list(root, "CIFAR10", download=True).num_rows == 12

    def test_a_download_that_fails_is_told(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{CLOSED}cifar.tar.gz")

        message = _refusal(tmp_path / "new", "CIFAR10", download=True)

        assert "torchvision cannot download and read it" in message
        assert "refused" in message
        assert "check that this machine reaches the internet" in message

    def test_nothing_is_downloaded_where_all_is_there(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(datasets.CIFAR10, "url", CLOSED)

        assert _list(root, "CIFAR10", download=True).num_rows == 12


class _Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.fixture
def serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, bytes]], str]]:
    """Serve files over HTTP, and give the address."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def put(files: dict[str, bytes]) -> str:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return f"http://127.0.0.1:{server.server_port}"

    yield put
    server.shutdown()
    thread.join()
    server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def _idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.tobytes()


class TestFashionMnist:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        generator = np.random.default_rng(0)
        folder = tmp_path / "FashionMNIST" / "raw"
        folder.mkdir(parents=True)
        for split, count in (("train", 20), ("t10k", 6)):
            images = generator.integers(0, 256, (count, 28, 28), np.uint8)
            labels = (np.arange(count) % 10).astype(np.uint8)
            (folder / f"{split}-images-idx3-ubyte").write_bytes(_idx(images))
            (folder / f"{split}-labels-idx1-ubyte").write_bytes(_idx(labels))
        return tmp_path

    def test_rows_are_grey_images_with_the_names_of_clothes(self, root: Path) -> None:
        listing = _list(root, "FashionMNIST", "test")
        theirs = datasets.FashionMNIST(str(root), train=False)

        assert _labels(listing) == datasets.FashionMNIST.classes[:6]
        for image, (picture, _) in zip(listing.reader.read(), theirs, strict=True):
            assert isinstance(image, np.ndarray)
            assert np.array_equal(image, np.asarray(picture))
        assert _list(root, "FashionMNIST", "train").num_rows == 20

    def test_packed_files_alone_are_not_enough(self, root: Path) -> None:
        path = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
        path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()

        message = _refusal(root, "FashionMNIST")

        assert "files are missing: FashionMNIST/raw/train-images-idx3-ubyte" in message

    @pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03", b"<html>" * 10])
    def test_damaged_files_are_told(self, root: Path, content: bytes) -> None:
        (root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)

        message = _refusal(root, "FashionMNIST")

        assert "torchvision cannot read it: " in message
        assert "copy the data set again" in message

    def test_images_without_labels_are_told(self, root: Path) -> None:
        labels = _idx(np.zeros(3, np.uint8))
        (root / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(labels)

        assert "it has 20 images and 3 labels" in _refusal(root, "FashionMNIST")

    def test_a_failed_download_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [CLOSED])

        message = _refusal(tmp_path, "FashionMNIST", download=True)

        assert "torchvision cannot download and read it: Error downloading" in message


class TestPets:
    IMAGES = ("Abyssinian_1", "yorkshire_terrier_2", "Abyssinian_2")

    @pytest.fixture
    def root(self, tmp_path: Path, image_file: ImageFile) -> Path:
        folder = tmp_path / "oxford-iiit-pet"
        for name in ("images", "annotations"):
            (folder / name).mkdir(parents=True)
        for name in self.IMAGES:
            (folder / "images" / f"{name}.jpg").write_bytes(image_file(kind="JPEG"))
        lines = ["Abyssinian_1 1 1 1", "yorkshire_terrier_2 2 2 1", "Abyssinian_2 1 1 1"]
        (folder / "annotations" / "trainval.txt").write_text("\n".join(lines))
        (folder / "annotations" / "test.txt").write_text(lines[0])
        return tmp_path

    def test_images_stay_on_the_disk(self, root: Path) -> None:
        listing = _list(root, "OxfordIIITPet", "trainval")

        assert isinstance(listing.reader, FileRows)
        assert _labels(listing) == ["Abyssinian", "Yorkshire Terrier", "Abyssinian"]
        assert listing.reader.sources()[0] == "oxford-iiit-pet/images/Abyssinian_1.jpg"
        assert all(isinstance(content, bytes) for content in listing.reader.read())
        assert _list(root, "OxfordIIITPet", "test").num_rows == 1

    def test_a_missing_image_is_a_row_that_cannot_be_read(self, root: Path, tmp_path: Path) -> None:
        (root / "oxford-iiit-pet/images/Abyssinian_1.jpg").unlink()

        reader = _list(root, "OxfordIIITPet", "trainval").reader

        assert isinstance(next(reader.read()), Unreadable)
        digests = remembered_digests(reader, store_root=Location(str(tmp_path / "stores")))
        assert list(digests.unreadable) == ["oxford-iiit-pet/images/Abyssinian_1.jpg"]

    def test_a_list_that_leaves_the_folder_reads_nothing(self, root: Path) -> None:
        (root.parent / "secret.jpg").write_bytes(b"secret")
        lines = "../../../secret 1 1 1\nAbyssinian_1 2 1 1\n"
        (root / "oxford-iiit-pet/annotations/trainval.txt").write_text(lines)

        secret, image = _list(root, "OxfordIIITPet", "trainval").reader.read()

        assert isinstance(secret, Unreadable)
        assert isinstance(image, bytes)

    def test_missing_and_damaged_lists_are_told(self, root: Path) -> None:
        path = root / "oxford-iiit-pet/annotations/trainval.txt"
        path.write_text("one two three four\n")
        assert "torchvision cannot read it" in _refusal(root, "OxfordIIITPet", "trainval")

        path.unlink()
        message = _refusal(root, "OxfordIIITPet", "trainval")
        assert "files are missing: oxford-iiit-pet/annotations/trainval.txt" in message


class TestFlowers:
    @pytest.fixture
    def root(self, tmp_path: Path, image_file: ImageFile, monkeypatch: pytest.MonkeyPatch) -> Path:
        scipy = pytest.importorskip("scipy.io")
        folder = tmp_path / "flowers-102"
        (folder / "jpg").mkdir(parents=True)
        for number in range(1, 7):
            path = folder / "jpg" / f"image_{number:05d}.jpg"
            path.write_bytes(image_file(number, kind="JPEG"))
        scipy.savemat(folder / "imagelabels.mat", {"labels": [[77, 2, 102, 2, 77, 1]]})
        splits = {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6]]}
        scipy.savemat(folder / "setid.mat", splits)
        files = dict(datasets.Flowers102._file_dict)
        for key in ("label", "setid"):
            name = files[key][0]
            files[key] = (name, _md5((folder / name).read_bytes()))
        monkeypatch.setattr(datasets.Flowers102, "_file_dict", files)
        return tmp_path

    def test_every_split_names_its_flowers(self, root: Path) -> None:
        names = datasets.Flowers102.classes

        for split, numbers in (("train", (77, 2)), ("val", (102, 2)), ("test", (77, 1))):
            listing = _list(root, "Flowers102", split)

            assert _labels(listing) == [names[number - 1] for number in numbers]
            assert all(isinstance(content, bytes) for content in listing.reader.read())

    def test_without_names_they_are_numbered_from_one(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(datasets.Flowers102, "classes")

        assert _labels(_list(root, "Flowers102", "val")) == ["102", "2"]

    def test_a_changed_list_is_refused(self, root: Path) -> None:
        (root / "flowers-102" / "setid.mat").write_bytes(b"changed")

        assert "corrupted" in _refusal(root, "Flowers102")

    def test_without_scipy_the_fix_is_to_install_it(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)

        message = _refusal(root, "Flowers102")

        assert "which is not installed" in message
        assert "run `pip install scipy`" in message


def test_an_object_store_is_refused(tmp_path: Path) -> None:
    message = _refusal("s3://bucket/sets", "CIFAR10")

    assert (
        "s3://bucket/sets: torchvision reads CIFAR10 from a folder of this machine only" in message
    )


def test_torchvision_is_imported_only_where_it_is_listed() -> None:
    import subprocess
    import sys

    code = (
        "import sys, rayft.data.sources, rayft.data.inspect\n"
        "assert 'torchvision' not in sys.modules, 'torchvision'\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
