"""The jobs that are too large to run here train a few steps on a few pictures."""

import contextlib
import io
import json
import os
import struct
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

import rayft

JOBS = Path(__file__).parents[2] / "jobs"
SHARED = Path(os.environ.get("RAYFT_SHARED") or JOBS.parents[1] / "shared")
CLASSES = ("bird", "cat")
PER_CLASS = 24

SMALL = (
    "scaling={num_workers: 0, use_gpu: false}",
    "model.backbone.weights=none",
    "device=cpu",
    "precision=fp32",
    "global_batch_size=8",
    "data.image_size=32",
    "data.validation.fraction=0.25",
)


def _picture(seed: int, *, size: int = 40, kind: str = "JPEG") -> bytes:
    """Return an image file whose class a network can see: one half is bright."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 96, (size, size, 3), np.uint8)
    pixels[:, : size // 2] += np.uint8(128 * (seed % 2))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def _rows(first_seed: int) -> list[tuple[bytes, int]]:
    seeds = range(first_seed, first_seed + PER_CLASS * len(CLASSES))
    return [(_picture(seed), seed % len(CLASSES)) for seed in seeds]


def _as_folders(at: Path, first_seed: int) -> str:
    for number, (image, label) in enumerate(_rows(first_seed)):
        folder = at / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.jpg").write_bytes(image)
    return json.dumps({"kind": "folder", "path": str(at)})


def _as_parquet(at: Path, first_seed: int) -> str:
    at.mkdir()
    rows = _rows(first_seed)
    images = [{"bytes": image, "path": None} for image, _ in rows]
    table = pa.table({"image": images, "label": [label for _, label in rows]})
    pq.write_table(table, at / "part-0.parquet")
    return str(at / "*.parquet")


def _as_tar(at: Path, first_seed: int) -> str:
    at.mkdir()
    with tarfile.open(at / "part-0000.tar", "w") as tar:
        for number, (image, label) in enumerate(_rows(first_seed)):
            for ending, content in (("jpg", image), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number:04d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return str(at / "part-{0000..0000}.tar")


def _as_idx(at: Path, first_seed: int) -> str:
    """Write grey pictures of ten classes as torchvision keeps Fashion-MNIST."""
    raw = at / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(first_seed)
    labels = np.arange(80, dtype=np.uint8) % 10
    images = generator.integers(0, 96, (len(labels), 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 6] += np.uint8(128)
    for part in ("train", "t10k"):
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            (raw / f"{part}-{name}-ubyte").write_bytes(head + values.tobytes())
    return str(at)


Writer = Callable[[Path, int], str]
RECIPES: dict[str, tuple[str, Writer, Sequence[str]]] = {
    "cifar10": ("data.{}", _as_folders, ("2 steps", "3 steps")),
    "cifar10-mobilenet": ("data.{}.path", _as_parquet, ("3 steps", "3 steps")),
    "fashion-mnist": ("data.{}.root", _as_idx, ("2 steps", "3 steps")),
    "imagenet-8gpu": ("data.{}.path", _as_tar, ("1 steps", "1 steps", "2 steps")),
}


SWEEP = "cifar10-heads-sweep"


def test_every_job_is_tried() -> None:
    assert {job.stem for job in JOBS.glob("*.yaml")} == {*RECIPES, SWEEP, "quickstart"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_on_a_few_pictures(name: str, tmp_path: Path) -> None:
    setting, write, lengths = RECIPES[name]
    overrides = [
        f"{setting.format('train')}={write(tmp_path / 'train', 0)}",
        f"{setting.format('test')}={write(tmp_path / 'test', 1000)}",
        f"storage_path={tmp_path / 'runs'}",
        *SMALL,
        *(f"phases.{index}.for={length}" for index, length in enumerate(lengths)),
        *(
            f"phases.{index}.image_size=24"
            for index, phase in enumerate(rayft.load_spec(JOBS / f"{name}.yaml").spec.phases)
            if phase.image_size
        ),
    ]
    spec = rayft.load_spec(JOBS / f"{name}.yaml", overrides).spec

    result = rayft.train(spec)

    steps = sum(int(length.split()[0]) for length in lengths)
    assert result["status"] == "finished"
    assert [phase["name"] for phase in result["phases"]] == [phase.name for phase in spec.phases]
    assert (tmp_path / "runs" / name / "checkpoints" / f"step-{steps:010d}").is_dir()
    assert 0 <= result["metrics"]["test/accuracy"] <= 1


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_the_sweep_fuses_its_trials(tmp_path: Path) -> None:
    few = (each for each in SMALL if not each.startswith("scaling"))
    overrides = [
        f"run.data.train.path={_as_parquet(tmp_path / 'train', 0)}",
        f"storage_path={tmp_path / 'runs'}",
        "search.num_trials=3",
        "run.phases.0.for=2 epochs",
        *(f"run.{each}" for each in few),
    ]

    result = rayft.tune(rayft.load_sweep(JOBS / f"{SWEEP}.yaml", overrides))

    assert [trial["status"] for trial in result["trials"]] == ["finished"] * 3
    folder = tmp_path / "runs" / SWEEP
    assert {file.name for file in folder.glob("*.png")} == {"curves.png", "parallel.png"}
    units = [json.loads(line) for line in (folder / "sweep.jsonl").read_text().splitlines()]
    assert [unit["work"] for unit in units if unit["kind"] == "handed"] == ["fused"]


@pytest.mark.timeout(600)
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data at {SHARED}; set RAYFT_SHARED")
def test_the_pretrained_mobilenet_separates_airplanes_from_frogs(tmp_path: Path) -> None:
    """The recipe's own paths hold, from a folder of data, and its weights are worth something."""
    for split, count in (("train", 120), ("test", 50)):
        (file, *_) = sorted((SHARED / "data" / "cifar10").glob(f"{split}-*.parquet"))
        rows = pq.read_table(file)
        kept = rows.filter(pc.is_in(rows["label"], pa.array([0, 6]))).slice(0, count)
        (tmp_path / "data" / "cifar10").mkdir(parents=True, exist_ok=True)
        pq.write_table(kept, tmp_path / "data" / "cifar10" / f"{split}-00000.parquet")
    (tmp_path / "models").symlink_to(SHARED / "models")
    overrides = [
        f"storage_path={tmp_path / 'runs'}",
        *(each for each in SMALL if not each.startswith(("model.", "data.image", "global"))),
        *("data.image_size=64", "global_batch_size=32"),
        *("batch_norm=pretrained", "ema=null"),
        "phases=[{name: probe, train: [heads], for: 5 epochs, lr: 1e-2}]",
    ]
    spec = rayft.load_spec(JOBS / "cifar10-mobilenet.yaml", overrides).spec

    with contextlib.chdir(tmp_path):
        result = rayft.train(spec)

    assert result["metrics"]["test/accuracy"] >= 0.85
