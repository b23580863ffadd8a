"""Images per second of rayft's loop on a device, and of what feeds it.

1. ResNet-50 at 224 px: the loop with its real feed, from a store of pixels and from one of files,
   with the share of its time that it waited for batches; against the same step on one batch that
   lies on the device.
2. Decoding files, and decoding and augmenting them, with 1 to 16 threads.

Needs no Ray. Prints a table, and writes every figure to a file:

python -m tests.benchmarks.gpu --json figures.json
python -m tests.benchmarks.gpu --json figures.json --device cpu --rows 64 --backbone resnet18
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rayft.data.prepare import PreparedDataset, prepare_dataset
from rayft.engine.loop import train
from rayft.engine.meter import Meter
from rayft.engine.reduce import make_reduce
from rayft.engine.run import Run
from rayft.engine.step import train_step
from rayft.optim.modes import set_trainable, set_training_modes
from rayft.plan.storage import stored_size
from rayft.runtime.allocator import keep_freed_memory
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.transforms.augment import make_augmentation
from rayft.transforms.decode_batch import EncodedImages, decode_batch
from tests.benchmarks.make_jpegs import write_jpegs
from tests.benchmarks.side_by_side import Figure, commit, machine, measure, ratio, report
from tests.gpu.harness import plan_on_device, start_run

STORES = ("decoded", "encoded")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    device: str
    backbone: str
    image_size: int
    rows: int
    batch: int
    steps: int
    warm_up: int
    rounds: int
    threads: tuple[int, ...]
    cpus: int


class Quiet:
    """Hears nothing but the start of a phase: what came before it only warmed up."""

    run: Run

    def emit(self, kind: str, values: Mapping[str, Any]) -> None:
        if kind == "phase":
            self.run.meter = Meter(self.run.clock)

    def stop_requested(self) -> bool:
        return False


def make_spec(settings: Settings, images: Path, stored_as: str) -> RunSpec:
    backbone = {"kind": "torchvision", "name": settings.backbone, "weights": "none"}
    phases = [("warm-up", settings.warm_up), ("measured", settings.steps + 1)]
    return RunSpec.model_validate(
        {
            "name": "benchmark",
            "data": {
                "train": {"kind": "folder", "path": str(images)},
                "image_size": settings.image_size,
                "stored_as": stored_as,
            },
            "augment": [{"kind": "random_resized_crop"}, {"kind": "horizontal_flip"}],
            "model": {"backbone": backbone, "heads": {"label": {"kind": "classification"}}},
            "phases": [
                {"name": name, "train": ["all"], "for": f"{steps} steps", "lr": 1e-3}
                for name, steps in phases
            ],
            "global_batch_size": settings.batch,
            "precision": "bf16",
            "device": settings.device,
            "checkpoint": {"interval_s": 1e9},
            "scaling": {"num_workers": 0, "resources_per_worker": {"CPU": settings.cpus}},
        }
    )


def prepare(spec: RunSpec, settings: Settings, folder: Path) -> PreparedDataset:
    return prepare_dataset(
        spec.data,
        base_dir=folder,
        store_root=Location(str(folder / "stores")),
        image_size=settings.image_size,
        stored_size=stored_size(spec, image_size=settings.image_size),
        use_ray=False,
        on_progress=lambda done, total: None,
    )


def begin(spec: RunSpec, prepared: PreparedDataset, settings: Settings, folder: Path) -> Run:
    events = Quiet()
    plan = plan_on_device(spec, prepared, cpus=settings.cpus)
    events.run = start_run(plan, prepared, folder, events=events)
    return events.run


def loop(run: Run, waits: list[float]) -> float:
    """Return images per second of the loop; note the share of the time that it waited."""
    train(run)
    waits.append(run.meter.wait_fraction)
    return run.meter.rows_per_s


def step_alone(run: Run, settings: Settings) -> float:
    """Return images per second of the same step on one batch that lies on the device."""
    phase = run.plan.phases[0]
    set_trainable(run.model, phase.ledger)
    run.start_optimizer(phase)
    reduce = make_reduce(run.plan, run.model, run.ranks)
    set_training_modes(run.model, phase.ledger, batch_norm=run.plan.spec.batch_norm)
    with run.feed.training(phase, start_step=0) as steps:
        batches = next(steps)
    placed = {id(batch): run.device.pixels(batch) for batch in batches}
    run.device.pixels = lambda batch: placed[id(batch)]  # type: ignore[method-assign]
    for _ in range(settings.warm_up):
        train_step(run, reduce, phase, batches)
    started = time.perf_counter()
    for _ in range(settings.steps):
        # Ends with a look at the gradient, so the device is waited for.
        train_step(run, reduce, phase, batches)
    return settings.steps * settings.batch / (time.perf_counter() - started)


def feed_alone(run: Run) -> float:
    """Return images per second of the feed where nothing is done with them."""
    with run.feed.training(run.plan.phases[1], start_step=0) as steps:
        next(steps)
        started = time.perf_counter()
        rows = sum(batch.ticket.num_rows for batches in steps for batch in batches)
    return rows / (time.perf_counter() - started)


def measure_loop(settings: Settings, folder: Path) -> list[Figure]:
    """Measure the loop, its step and its feed."""
    images = folder / "images"
    write_jpegs(images, settings.rows, num_classes=min(100, settings.rows // 16))
    specs = {kind: make_spec(settings, images, kind) for kind in STORES}
    prepared = {kind: prepare(spec, settings, folder) for kind, spec in specs.items()}
    waits: dict[str, list[float]] = {kind: [] for kind in STORES}

    def with_run(kind: str, do: Callable[[Run], float]) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as checkpoints:
            return do(begin(specs[kind], prepared[kind], settings, Path(checkpoints)))

    contestants: dict[str, Callable[[], float]] = {
        "step on a held batch": lambda: with_run("decoded", lambda run: step_alone(run, settings))
    }
    for kind in STORES:
        contestants[f"loop, {kind} store"] = lambda kind=kind: with_run(
            kind, lambda run: loop(run, waits[kind])
        )
        contestants[f"feed alone, {kind} store"] = lambda kind=kind: with_run(kind, feed_alone)
    found = measure(contestants, rounds=settings.rounds)
    held = found["step on a held batch"]
    loops = {kind: found[f"loop, {kind} store"] for kind in STORES}
    return [
        *found.values(),
        *(ratio(f"loop / held batch, {kind}", one, held) for kind, one in loops.items()),
        *(Figure(f"share of the time waited, {kind}", one) for kind, one in waits.items()),
    ]


def measure_decoding(settings: Settings, folder: Path) -> list[Figure]:
    """Measure making batches from files, by the number of threads."""
    files = sorted((folder / "images").glob("*/*.jpg"))[: 16 * settings.batch]
    contents = [file.read_bytes() for file in files]
    spec = make_spec(settings, folder, "encoded")
    size = stored_size(spec, image_size=settings.image_size)
    augment = make_augmentation(spec.augment, image_size=settings.image_size, seed=0)

    def decode(threads: int, *, augmented: bool) -> float:
        started = time.perf_counter()
        for start in range(0, len(contents), settings.batch):
            some = contents[start : start + settings.batch]
            if augmented:
                images = EncodedImages(contents=some, size=size, resize="crop")
                ids = np.arange(start, start + len(some))
                augment.of_loaded(images, ids, epoch=0, threads=threads)
            else:
                decode_batch(some, size=size, resize="crop", threads=threads)
        return len(contents) / (time.perf_counter() - started)

    contestants: dict[str, Callable[[], float]] = {}
    for augmented, name in ((False, "decode"), (True, "decode and augment")):
        for threads in settings.threads:
            contestants[f"{name}, threads: {threads}"] = (
                lambda threads=threads, augmented=augmented: decode(threads, augmented=augmented)
            )
    return list(measure(contestants, rounds=settings.rounds).values())


def parse() -> tuple[Settings, Path]:
    on_gpu = torch.cuda.is_available()
    cpus = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if on_gpu else "cpu")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--batch", type=int, help="default 256, on the CPU 16")
    parser.add_argument("--steps", type=int, help="measured; default 60, on the CPU 2")
    parser.add_argument("--rounds", type=int, help="default 3, on the CPU 1")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    chosen = parser.parse_args()
    usual = (256, 60, 3, 10) if chosen.device == "cuda" else (16, 2, 1, 1)
    settings = Settings(
        device=chosen.device,
        backbone=chosen.backbone,
        image_size=chosen.image_size,
        rows=chosen.rows,
        batch=chosen.batch or usual[0],
        steps=chosen.steps or usual[1],
        rounds=chosen.rounds or usual[2],
        warm_up=usual[3],
        threads=tuple(count for count in chosen.threads if count <= cpus),
        cpus=cpus,
    )
    return settings, chosen.json


def main() -> None:
    settings, file = parse()
    keep_freed_memory()  # as every worker does
    with tempfile.TemporaryDirectory() as folder:
        figures = measure_loop(settings, Path(folder)) + measure_decoding(settings, Path(folder))
    title = f"{settings.backbone} at {settings.image_size} px, bf16, batch {settings.batch}"
    report(title, figures, unit="images/s")
    found = {figure.name: figure.values for figure in figures}
    about = {"machine": machine(), "commit": commit(), "settings": asdict(settings)}
    file.write_text(json.dumps({**about, "figures": found}, indent=1))
    print(f"\nevery figure is in {file}")


if __name__ == "__main__":
    main()
