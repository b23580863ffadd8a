"""Write JPEGs that cost what photos cost: noise at every scale, a folder for each class.

Each class has one large picture; a file is a piece of it, turned over or not, in other colours. So
all files differ, a network can learn the classes, and 100,000 files take minutes, not hours.

python -m tests.benchmarks.make_jpegs FOLDER [--rows 100000] [--classes 100] [--seed 0]
"""

import argparse
import io
import os
import time
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, QUALITY = 256, 90
_PICTURE_SIZE = 512
_AMPLITUDES = {2: 45, 4: 40, 8: 35, 16: 28, 32: 22, 64: 17, 128: 12, 256: 9, 512: 6}
"""Grey levels of the noise with so many grains to a side: about 1/f, as in photos."""


def picture(label: int, *, seed: int) -> Image.Image:
    """Return the large picture of a class."""
    rng = np.random.Generator(np.random.Philox(key=[seed, label]))
    planes = np.full((3, _PICTURE_SIZE, _PICTURE_SIZE), 120, np.float32)
    for grains, amplitude in _AMPLITUDES.items():
        # Brightness varies more than colour.
        noise = rng.standard_normal((grains, grains), np.float32)
        for plane in planes:
            own = rng.standard_normal((grains, grains), np.float32)
            layer = Image.fromarray(amplitude * (0.8 * noise + 0.5 * own))
            plane += np.asarray(layer.resize((_PICTURE_SIZE,) * 2, Image.Resampling.BICUBIC))
    return Image.fromarray(planes.clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy())


_picture = lru_cache(maxsize=256)(picture)


def jpeg(number: int, *, num_classes: int, seed: int) -> bytes:
    """Return the file `number`, of class `number % num_classes`; a pure function."""
    rng = np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, 0, 1]))
    left, top = rng.integers(0, _PICTURE_SIZE - SIZE, 2).tolist()
    piece = _picture(number % num_classes, seed=seed).crop((left, top, left + SIZE, top + SIZE))
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    gains, shifts = rng.uniform(0.85, 1.15, 3), rng.uniform(-15, 15, 3)
    levels = np.arange(256)[None] * gains[:, None] + shifts[:, None]
    file = io.BytesIO()
    piece.point(levels.clip(0, 255).astype(int).ravel().tolist()).save(
        file, "JPEG", quality=QUALITY
    )
    return file.getvalue()


def write_jpegs(
    folder: Path, num_rows: int, *, num_classes: int = 100, seed: int = 0, processes: int = 0
) -> int:
    """Write the files as `folder/class-007/0000107.jpg`; return how many bytes they have.

    Args:
        folder: may exist; files of the same name are replaced.
        num_rows: how many files.
        num_classes: how many folders they are dealt to.
        seed: of everything random.
        processes: that write at the same time; 0 takes one for each core. They change no byte.
    """
    for label in range(num_classes):
        (folder / f"class-{label:03d}").mkdir(parents=True, exist_ok=True)
    write = partial(_write, folder, num_rows=num_rows, num_classes=num_classes, seed=seed)
    with get_context("spawn").Pool(processes or os.cpu_count()) as pool:
        return sum(pool.imap_unordered(write, range(num_classes)))


def _write(folder: Path, label: int, *, num_rows: int, num_classes: int, seed: int) -> int:
    """Write one class."""
    total = 0
    for number in range(label, num_rows, num_classes):
        content = jpeg(number, num_classes=num_classes, seed=seed)
        total += (folder / f"class-{label:03d}" / f"{number:07d}.jpg").write_bytes(content)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    started = time.perf_counter()
    total = write_jpegs(chosen.folder, chosen.rows, num_classes=chosen.classes, seed=chosen.seed)
    print(
        f"{chosen.rows:,} files of {total / chosen.rows / 1e3:.1f} kB on average "
        f"in {time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
