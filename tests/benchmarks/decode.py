"""Rows per second of making batches from JPEGs of 256 px: decode, random resized crop, flip.

rayft in one process with one thread and with two, against a DataLoader with one worker process and
with two. The files lie in memory for both, both give uint8 images of 224 px, and the DataLoader is
measured with each of torchvision's ways to decode; the ratios are to the fastest of them.

python -m tests.benchmarks.decode [--rounds 5] [--rows 2048] [--batch 64]
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from rayft.spec.augment_motion import HorizontalFlip, RandomResizedCrop
from rayft.transforms.augment import make_augmentation
from rayft.transforms.decode_batch import EncodedImages
from tests.benchmarks.make_jpegs import SIZE, jpeg
from tests.benchmarks.side_by_side import measure, ratio, report

IMAGE_SIZE, SCALE, RATIO = 224, (0.35, 1.0), (0.75, 4 / 3)
Transform = Callable[[bytes], Tensor]


class Files(Dataset[tuple[Tensor, int]]):
    """Image files, one at a time."""

    def __init__(self, contents: Sequence[bytes], transform: Transform) -> None:
        self._contents = contents
        self._transform = transform

    def __len__(self) -> int:
        return len(self._contents)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._contents[index]), index % 100


def augmentation() -> list[v2.Transform]:
    return [
        v2.RandomResizedCrop(IMAGE_SIZE, scale=SCALE, ratio=RATIO, antialias=True),
        v2.RandomHorizontalFlip(),
    ]


def pillow() -> Transform:
    """Decode with Pillow, change Pillow's images."""
    return v2.Compose([_open, *augmentation(), v2.PILToTensor()])


def pillow_to_tensors() -> Transform:
    """Decode with Pillow, change tensors."""
    return v2.Compose([_open, v2.PILToTensor(), *augmentation()])


def torchvision() -> Transform:
    """Decode and change tensors."""
    return v2.Compose([_decode_jpeg, *augmentation()])


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def _decode_jpeg(content: bytes) -> Tensor:
    return decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)


def rayft(contents: Sequence[bytes], *, batch: int, threads: int) -> float:
    """One epoch in random order."""
    specs = (
        RandomResizedCrop(kind="random_resized_crop", scale=SCALE, ratio=RATIO),
        HorizontalFlip(kind="horizontal_flip"),
    )
    augment = make_augmentation(specs, image_size=IMAGE_SIZE, seed=0)
    order = np.random.default_rng(0).permutation(len(contents))
    started = time.perf_counter()
    for start in range(0, len(order), batch):
        ids = order[start : start + batch]
        images = EncodedImages(contents=[contents[i] for i in ids], size=SIZE, resize="crop")
        augment.of_loaded(images, ids, epoch=0, threads=threads)
    return len(order) / (time.perf_counter() - started)


def loader(
    contents: Sequence[bytes], transform: Transform, *, batch: int, num_workers: int
) -> float:
    """One epoch in random order, without the start of the processes."""
    files = Files(contents, transform)
    batches = iter(DataLoader(files, batch_size=batch, shuffle=True, num_workers=num_workers))
    for _ in range(num_workers):
        next(batches)  # the workers began them together, before the clock
    started, rows = time.perf_counter(), 0
    for _, labels in batches:
        rows += len(labels)
    return rows / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64)
    chosen = parser.parse_args()
    contents = [jpeg(number, num_classes=20, seed=0) for number in range(chosen.rows)]
    print(f"{sum(map(len, contents)) / len(contents) / 1e3:.1f} kB a file")
    ways = {
        "Pillow": pillow(),
        "Pillow, then tensors": pillow_to_tensors(),
        "torchvision": torchvision(),
    }
    contestants: dict[str, Callable[[], float]] = {}
    for count in (1, 2):
        contestants[f"rayft, threads: {count}"] = lambda count=count: rayft(
            contents, batch=chosen.batch, threads=count
        )
        for name, way in ways.items():
            contestants[f"DataLoader, workers: {count}, {name}"] = lambda way=way, count=count: (
                loader(contents, way, batch=chosen.batch, num_workers=count)
            )
    found = measure(contestants, rounds=chosen.rounds)
    figures = [*found.values()]
    for count in (1, 2):
        loaders = [found[f"DataLoader, workers: {count}, {name}"] for name in ways]
        best = max(loaders, key=lambda figure: statistics.median(figure.values))
        figures.append(ratio(f"rayft / {best.name}", found[f"rayft, threads: {count}"], best))
    one, two = found["rayft, threads: 1"], found["rayft, threads: 2"]
    figures.append(ratio("rayft, 2 threads / 1 thread", two, one))
    report(f"JPEGs of 256 px to batches of 224 px, batch {chosen.batch}", figures, unit="rows/s")


if __name__ == "__main__":
    main()
