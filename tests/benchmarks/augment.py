"""Images per second of flip, crop, colour jitter and normalisation at 96 px.

rayft in one process and in two of one thread each, as its workers are, and in one process of two
threads (the `augment:` list on batches, then the device's normalisation), against a DataLoader with
one worker process and with two, which transforms image by image. Images are decoded beforehand for
both, and both end in batches of normalised floats. The DataLoader is measured with Pillow's images
and with tensors; ratios are to the faster one.

python -m tests.benchmarks.augment [--rounds 9] [--rows 4096] [--batch 64] [--hue 0.0]
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.pool import Pool

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from rayft.engine.device import Device
from rayft.runtime.allocator import keep_freed_memory
from rayft.spec.augment_motion import HorizontalFlip, RandomCrop
from rayft.spec.augment_tone import ColorJitter
from rayft.transforms.augment import make_augmentation
from tests.benchmarks.side_by_side import measure, ratio, report
from tests.benchmarks.usual_script import MEAN, STD

SIZE, PADDING, SPREAD = 96, 12, 0.4
Transform = Callable[[Image.Image], Tensor]
PIXELS: list[np.ndarray] = []
"""The images as one array [rows, H, W, 3], which forked processes share."""


class Pictures(Dataset[tuple[Tensor, int]]):
    """Decoded images, one at a time."""

    def __init__(self, images: Sequence[Image.Image], transform: Transform) -> None:
        self._images = images
        self._transform = transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._images[index]), index % 100


def pictures(num: int) -> list[Image.Image]:
    """Make pictures with large shapes and fine detail, and with blacks and whites."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(num):
        coarse = random.integers(0, 256, (6, 6, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        detail = random.integers(-16, 17, (SIZE, SIZE, 3))
        made.append(Image.fromarray((np.asarray(smooth) + detail).clip(0, 255).astype(np.uint8)))
    return made


def augmentation(hue: float) -> list[v2.Transform]:
    return [
        v2.RandomHorizontalFlip(),
        v2.RandomCrop(SIZE, padding=PADDING),
        v2.ColorJitter(SPREAD, SPREAD, SPREAD, hue),
    ]


def normalisation() -> list[v2.Transform]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]


def rayft(rows: slice, *, batch: int, threads: int, hue: float) -> int:
    """One epoch of some rows in random order; return their number."""
    images = PIXELS[0]
    jitter = {"brightness": SPREAD, "contrast": SPREAD, "saturation": SPREAD, "hue": hue}
    specs = (
        HorizontalFlip(kind="horizontal_flip"),
        RandomCrop(kind="random_crop", padding=PADDING),
        ColorJitter(kind="color_jitter", **jitter),
    )
    torch.set_num_threads(threads)
    keep_freed_memory()  # as in rayft's workers
    augment = make_augmentation(specs, image_size=SIZE, seed=0)
    device = Device(
        torch.device("cpu"),
        mean=MEAN,
        std=STD,
        precision="fp32",
        memory_format="channels_last",
        test_time=None,
    )
    order = np.random.default_rng(0).permutation(len(images))[rows]
    for start in range(0, len(order), batch):
        ids = order[start : start + batch]
        made = augment.of_loaded(
            lambda part, ids=ids: images[ids[part]], ids, epoch=0, threads=threads
        )
        device.images(made)
    return len(order)


def in_process(num_rows: int, *, batch: int, threads: int, hue: float) -> float:
    started = time.perf_counter()
    rayft(slice(0, num_rows), batch=batch, threads=threads, hue=hue)
    return num_rows / (time.perf_counter() - started)


def in_processes(pool: Pool, num_rows: int, *, batch: int, hue: float) -> float:
    halves = [slice(0, num_rows // 2), slice(num_rows // 2, num_rows)]
    started = time.perf_counter()
    done = pool.map(partial(rayft, batch=batch, threads=1, hue=hue), halves, chunksize=1)
    return sum(done) / (time.perf_counter() - started)


def loader(
    images: Sequence[Image.Image], transform: Transform, *, batch: int, num_workers: int
) -> float:
    """One epoch in random order, without the start of the processes."""
    torch.set_num_threads(1)
    rows = Pictures(images, transform)
    batches = iter(DataLoader(rows, batch_size=batch, shuffle=True, num_workers=num_workers))
    for _ in range(num_workers):
        next(batches)  # the workers began them together, before the clock
    started, done = time.perf_counter(), 0
    for _, labels in batches:
        done += len(labels)
    return done / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hue", type=float, default=0.0)
    chosen = parser.parse_args()
    images = pictures(chosen.rows)
    PIXELS.append(np.stack([np.asarray(image) for image in images]))
    pool = multiprocessing.get_context("fork").Pool(2)
    ways = {
        "Pillow": v2.Compose([*augmentation(chosen.hue), v2.PILToTensor(), *normalisation()]),
        "tensors": v2.Compose([v2.PILToTensor(), *augmentation(chosen.hue), *normalisation()]),
    }
    shared = {"batch": chosen.batch, "hue": chosen.hue}
    ours = {
        "rayft, processes: 1": partial(in_process, chosen.rows, threads=1, **shared),
        "rayft, processes: 2": partial(in_processes, pool, chosen.rows, **shared),
        "rayft, threads: 2": partial(in_process, chosen.rows, threads=2, **shared),
    }
    theirs = {
        f"DataLoader, workers: {count}, {name}": partial(
            loader, images, way, batch=chosen.batch, num_workers=count
        )
        for count in (1, 2)
        for name, way in ways.items()
    }
    found = measure({**ours, **theirs}, rounds=chosen.rounds)
    figures = [*found.values()]
    for name in ours:
        loaders = [found[f"DataLoader, workers: {name[-1]}, {way}"] for way in ways]
        best = max(loaders, key=lambda figure: statistics.median(figure.values))
        figures.append(ratio(f"{name} / {best.name}", found[name], best))
    title = f"flip, crop, jitter (hue {chosen.hue:g}) and normalise at {SIZE} px"
    report(f"{title}, batch {chosen.batch}", figures, unit="images/s")


if __name__ == "__main__":
    main()
