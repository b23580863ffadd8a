"""Every kind of source through preparing, and what the spec refuses of the newer kinds."""

import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from rayft.data.prepare import PreparedDataset, prepare_dataset
from rayft.errors import DataError
from rayft.spec.data import DataSpec
from rayft.spec.sources import TORCHVISION_SPLITS, SourceSpec, TorchvisionSource
from rayft.storage.location import Location
from rayft.store import shards
from rayft.store.dataset import open_dataset
from rayft.transforms.decode import fit_array

Photos = Callable[..., Path]
SOURCE: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec)
Progress = Callable[[int, int], None]


def _ignore(done: int, total: int) -> None:
    pass


def _prepare(
    base_dir: Path,
    train: dict[str, object],
    *,
    limit: float = 0.0,
    channels: int = 3,
    on_progress: Progress = _ignore,
) -> PreparedDataset:
    return prepare_dataset(
        DataSpec.model_validate(
            {"train": train, "bad_rows": {"limit": limit}, "channels": channels}
        ),
        base_dir=base_dir,
        store_root=Location(str(base_dir / "stores")),
        image_size=8,
        stored_size=8,
        use_ray=False,
        on_progress=on_progress,
    )


def _images(prepared: PreparedDataset) -> np.ndarray:
    split = open_dataset(prepared.ref).splits["train"]
    return np.asarray(split.store.gather(split.row_ids))


@pytest.fixture
def folder(bucket: Location) -> Location:
    return bucket / uuid4().hex


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_ROWS_PER_SHARD", 5)


def _tar(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


class TestPreparing:
    @pytest.fixture
    def root(self, photos: Photos) -> Path:
        return photos(per_class=6)

    def _sources(self, root: Path, folder: Location) -> dict[str, dict[str, object]]:
        """The same twelve images in sources of every kind, here and in an object store."""
        files = sorted(root.rglob("*.png"))
        names = [str(path.relative_to(root)) for path in files]
        contents = [path.read_bytes() for path in files]
        labels = [path.parent.name for path in files]
        for name, content in zip(names, contents, strict=True):
            (folder / "photos" / name).write_bytes(content)
        lines = ["image,label", *(f"{n},{la}" for n, la in zip(names, labels, strict=True))]
        (folder / "photos" / "list.csv").write_bytes("\n".join(lines).encode())
        sink = io.BytesIO()
        pq.write_table(pa.table({"image": contents, "label": labels}), sink, row_group_size=5)
        (folder / "rows.parquet").write_bytes(sink.getvalue())
        for part in (0, 1):
            members: dict[str, bytes] = {}
            for row in range(6 * part, 6 * part + 6):
                members |= {f"{row:02d}.png": contents[row], f"{row:02d}.cls": labels[row].encode()}
            (folder / f"t-{part}.tar").write_bytes(_tar(members))
            (root.parent / f"t-{part}.tar").write_bytes(_tar(members))
        return {
            "folder": {"kind": "folder", "path": str(root)},
            "folder there": {"kind": "folder", "path": f"{folder}/photos"},
            "csv there": {"kind": "csv", "path": f"{folder}/photos/list.csv"},
            "parquet there": {"kind": "parquet", "path": f"{folder}/rows.parquet"},
            "tar there": {"kind": "webdataset", "path": f"{folder}/t-{{0..1}}.tar"},
            "tar": {"kind": "webdataset", "path": str(root.parent / "t-*.tar")},
        }

    def test_every_kind_gives_the_same_images(
        self, root: Path, folder: Location, tmp_path: Path
    ) -> None:
        prepared = {
            name: _prepare(tmp_path, source) for name, source in self._sources(root, folder).items()
        }

        expected = _images(prepared["folder"])
        assert expected.shape == (12, 8, 8, 3)
        for name, found in prepared.items():
            assert np.array_equal(_images(found), expected), name
            assert found.facts.counts == {"train": (6, 6)}
            assert found.facts.classes == ("bird", "cat")
        assert not _prepare(tmp_path, {"kind": "folder", "path": f"{folder}/photos"}).built

    def test_missing_images_are_refused_or_put_aside(
        self, root: Path, folder: Location, tmp_path: Path
    ) -> None:
        self._sources(root, folder)
        (folder / "photos" / "cat" / "03.png").delete()
        source = {"kind": "csv", "path": f"{folder}/photos/list.csv"}

        with pytest.raises(DataError, match=r"1 of 12 images cannot be read"):
            _prepare(tmp_path, source)
        prepared = _prepare(tmp_path, source, limit=0.1)

        assert prepared.facts.num_bad_rows == 1
        assert prepared.facts.counts == {"train": (6, 5)}

    @pytest.mark.parametrize("limit", [0.0, 0.9])
    def test_an_object_that_changes_meanwhile_is_no_bad_row(
        self, root: Path, folder: Location, tmp_path: Path, limit: float
    ) -> None:
        self._sources(root, folder)

        def change(done: int, total: int) -> None:
            (folder / "photos" / "cat" / "05.png").write_bytes(b"another")

        with pytest.raises(DataError, match=r"cat/05\.png: it changed since it was listed"):
            _prepare(
                tmp_path,
                {"kind": "folder", "path": f"{folder}/photos"},
                limit=limit,
                on_progress=change,
            )
        assert not list((tmp_path / "stores" / "rows").iterdir())

    def test_a_change_behind_the_reader_is_found_at_the_end(
        self, root: Path, folder: Location, tmp_path: Path
    ) -> None:
        self._sources(root, folder)

        def change(done: int, total: int) -> None:
            (folder / "photos" / "bird" / "00.png").write_bytes(b"another")

        with pytest.raises(DataError, match=r"1 files changed while they were read: bird/00\.png"):
            _prepare(tmp_path, {"kind": "folder", "path": f"{folder}/photos"}, on_progress=change)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_clothes_of_torchvision(self, tmp_path: Path, channels: int) -> None:
        raw = tmp_path / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
        for split in ("train", "t10k"):
            header = struct.pack(">IIII", 0x0803, 20, 28, 28)
            (raw / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
            labels = struct.pack(">II", 0x0801, 20) + bytes(range(10)) * 2
            (raw / f"{split}-labels-idx1-ubyte").write_bytes(labels)

        prepared = _prepare(
            tmp_path,
            {"kind": "torchvision", "name": "FashionMNIST", "root": ".", "split": "train"},
            channels=channels,
        )

        assert prepared.facts.counts == {"train": (2,) * 10}
        assert _images(prepared).shape == (20, 8, 8, channels)
        grey = [fit_array(image, size=8, resize="crop", channels=1) for image in images]
        assert (_images(prepared) == np.stack(grey)).all()
        assert "Ankle boot" in prepared.facts.classes


class TestSpec:
    def _refusal(self, **fields: object) -> str:
        with pytest.raises(ValidationError) as caught:
            SOURCE.validate_python(fields)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("name", "split", "known"),
        [
            ("CIFAR10", "val", "train, test; write train or test"),
            ("OxfordIIITPet", "train", "trainval, test; write trainval or test"),
            ("Flowers102", "trainval", "train, val, test; write train or val or test"),
        ],
    )
    def test_a_split_that_a_data_set_lacks(self, name: str, split: str, known: str) -> None:
        message = self._refusal(kind="torchvision", name=name, root=".", split=split)

        assert f"split is '{split}', and {name} has {known}" in message

    def test_every_data_set_has_its_splits(self) -> None:
        names = get_args(TorchvisionSource.model_fields["name"].annotation)

        assert set(names) == set(TORCHVISION_SPLITS)

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"label": "json"}, "label_key is not given, and label is JSON"),
            ({"label": "meta.json"}, "label_key is not given, and label is JSON"),
            ({"label_key": "class"}, "label_key has no effect while label is 'cls'"),
            ({"image": "jpg;;png"}, "image or label has an empty extension"),
            ({"image": ""}, "image or label has an empty extension"),
            ({"label": "."}, "image or label has an empty extension"),
        ],
    )
    def test_labels_of_tar_files(self, fields: dict[str, str], problem: str) -> None:
        assert problem in self._refusal(kind="webdataset", path="a.tar", **fields)
