"""Rows per second of `rayft predict` against its own model on batches decoded beforehand.

python -m tests.benchmarks.predict [--rounds 3] [--rows 3000] [--workers 0] [--size 500x375]

MobileNetV2 at 224 px on JPEG files, in this many lanes as there are CPUs. The ceiling that counts
is the forward pass alone. Where decoding shares the CPUs with the model no program can reach it:
every row costs both, so the ceiling of the machine is 1 / (1 / forward + 1 / decode).
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rayft.data.predict_rows import Decoding
from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.checkpoint_reading import Checkpoint, find_checkpoint, read_checkpoint
from rayft.engine.predict import Predictor, evaluated_weights, trained_model
from rayft.models.model import make_model
from rayft.runtime.allocator import keep_freed_memory
from rayft.runtime.available import available_cpus
from rayft.runtime.predict_scale import auto_batch_size
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from tests.benchmarks.side_by_side import RAYFT, Figure, measure, ratio, report

SIZE, NUM_CLASSES, DISTINCT = 224, 1000, 200


def make_checkpoint(folder: Path, precision: str) -> Path:
    """Save MobileNetV2 with random weights, which cost what trained ones do."""
    spec = RunSpec.model_validate(
        {
            "name": precision,
            "data": {"train": {"kind": "folder", "path": "photos"}, "image_size": SIZE},
            "model": {
                "backbone": {"kind": "torchvision", "name": "mobilenet_v2", "weights": "none"},
                "heads": {"label": {"kind": "classification"}},
            },
            "phases": [{"name": "all", "train": ["all"], "for": "1 epochs", "lr": 1e-3}],
        }
    )
    model = make_model(spec.model, num_classes=NUM_CLASSES, seed=0)
    manifest: dict[str, Any] = {
        "spec": spec.model_dump(mode="json", by_alias=True),
        "classes": {"label": [f"class {number}" for number in range(NUM_CLASSES)]},
        "image_size": SIZE,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "precision": precision,
    }
    checkpoint = Checkpoint(tensors={"model": model.state_dict()}, manifest=manifest)
    CheckpointFolder(Location(str(folder / precision / "checkpoints"))).save(
        "step-1", checkpoint, best="step-1"
    )
    return folder / precision


def make_photos(folder: Path, rows: int, size: tuple[int, int]) -> list[bytes]:
    """Write JPEG files with the detail of a photo: large shapes and a little grain."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    files = []
    for number in range(rows):
        if number < DISTINCT:
            shapes = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
            pixels = np.asarray(shapes.resize(size, Image.Resampling.BICUBIC), np.int16)
            grain = rng.integers(-12, 13, pixels.shape)
            file = BytesIO()
            Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(
                file, "JPEG", quality=90
            )
            files.append(file.getvalue())
        (folder / f"{number:06d}.jpg").write_bytes(files[number % DISTINCT])
    return files


def rayft_predict(run: Path, photos: Path, workers: int) -> float:
    """Predict as a user would, into a new folder."""
    with tempfile.TemporaryDirectory() as out:
        found = subprocess.run(
            [
                RAYFT,
                "predict",
                run,
                photos,
                "-o",
                f"{out}/out",
                "--workers",
                str(workers),
                "--json",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    return float(json.loads(found.stdout.splitlines()[-1])["rows_per_s"])


def in_lanes(work: Callable[[], int], lanes: int, seconds: float) -> float:
    """Call `work` in threads for a while; it returns the rows that it has done."""

    def repeat(_: int) -> float:
        torch.set_num_threads(1)
        work()
        rows, started = 0, time.monotonic()
        while (passed := time.monotonic() - started) < seconds:
            rows += work()
        return rows / passed

    with ThreadPoolExecutor(lanes) as threads:
        return sum(threads.map(repeat, range(lanes)))


def forward(run: Path, batch_size: int) -> Callable[[], int]:
    """The model on a decoded batch that is held in memory."""
    checkpoint = read_checkpoint(find_checkpoint(Location(str(run))))
    trained = trained_model(checkpoint)
    predictor = Predictor(
        trained,
        evaluated_weights(trained, checkpoint),
        device=torch.device("cpu"),
        batch_size=batch_size,
    )
    images = np.random.default_rng(0).integers(0, 256, (batch_size, SIZE, SIZE, 3), np.uint8)
    return lambda: len(predictor.probabilities(images))


def decode(files: list[bytes]) -> Callable[[], int]:
    """Decoding of files that are held in memory."""
    decoding = Decoding(image_size=SIZE, stored_size=SIZE, resize="crop")
    images = np.zeros((32, SIZE, SIZE, 3), np.uint8)
    return lambda: len(decoding.decode(files[:32], images.copy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--size", default="500x375", help="width and height of the files")
    chosen = parser.parse_args()
    # As in a worker; before any thread has a heap of its own.
    keep_freed_memory()
    lanes = available_cpus()
    batch = auto_batch_size(chosen.rows, image_size=SIZE, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        width, height = map(int, chosen.size.split("x"))
        photos = Path(folder, "photos")
        files = make_photos(photos, chosen.rows, (width, height))
        contestants: dict[str, Callable[[], float]] = {}
        decoding = decode(files)
        contestants["decode only"] = lambda: in_lanes(decoding, lanes, chosen.seconds / 3)
        for kind in ("fp32", "bf16"):
            run = make_checkpoint(Path(folder), kind)
            step = forward(run, batch)
            contestants[f"predict {kind}"] = lambda run=run: rayft_predict(
                run, photos, chosen.workers
            )
            contestants[f"forward only {kind}"] = lambda step=step: in_lanes(
                step, lanes, chosen.seconds
            )
        found = measure(contestants, rounds=chosen.rounds)
    figures = [*found.values()]
    for kind in ("fp32", "bf16"):
        ceiling = _both(f"ceiling with decoding {kind}", found[f"forward only {kind}"], found)
        figures += [
            ceiling,
            ratio(
                f"predict / forward only, {kind}",
                found[f"predict {kind}"],
                found[f"forward only {kind}"],
            ),
            ratio(f"predict / ceiling with decoding, {kind}", found[f"predict {kind}"], ceiling),
        ]
    title = (
        f"Predict, MobileNetV2 at {SIZE} px, {chosen.rows:,} JPEG files of {chosen.size}, "
        f"batch {batch}, {chosen.workers or 'no'} workers, {lanes} of {os.cpu_count()} CPUs"
    )
    report(title, figures, unit="rows/s")


def _both(name: str, forward_only: Figure, found: dict[str, Figure]) -> Figure:
    pairs = zip(forward_only.values, found["decode only"].values, strict=True)
    return Figure(name, [1 / (1 / one + 1 / other) for one, other in pairs])


if __name__ == "__main__":
    main()
