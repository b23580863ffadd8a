"""Images per second of `augment_on: host` and `augment_on: device`, side by side.

Both begin with stored images in memory and end with normalised floats on the device, as a worker's
batches do. The host's side augments in so many threads and then moves the batch; the device's side
moves the stored images and augments there. The host's can run beside the model's computation, the
device's cannot: its time is the model's loss, and its gain is what the host's would have lacked.

python -m tests.benchmarks.augment_on --device cuda [--rounds 5] [--rows 4096] [--batch 256]
    [--size 224] [--threads 4] [--lists flip-crop,trivial]
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from rayft.engine.device import Device
from rayft.engine.views import DeviceViews
from rayft.feed.order import RowViews
from rayft.feed.pending import Pending
from rayft.feed.prepare import Batch
from rayft.feed.tickets import Ticket
from rayft.runtime.allocator import keep_freed_memory
from rayft.spec.augment import AugmentSpec
from rayft.transforms.augment import Augmentation, make_augmentation
from tests.benchmarks.side_by_side import measure, ratio, report
from tests.benchmarks.usual_script import MEAN, STD

SPECS: TypeAdapter[tuple[AugmentSpec, ...]] = TypeAdapter(tuple[AugmentSpec, ...])
RESIZED_CROP, FLIP = {"kind": "random_resized_crop"}, {"kind": "horizontal_flip"}
JITTER = {"kind": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
LISTS: dict[str, list[dict[str, Any]]] = {
    "flip-crop": [FLIP, {"kind": "random_crop", "padding": 12}],
    "resized-crop": [RESIZED_CROP, FLIP],
    "jitter": [RESIZED_CROP, FLIP, JITTER],
    "trivial": [RESIZED_CROP, FLIP, {"kind": "trivial_augment"}],
    "rand": [RESIZED_CROP, FLIP, {"kind": "rand_augment"}],
    "warp": [FLIP, {"kind": "affine", "degrees": 15, "interpolation": "bilinear"}],
    "blur": [FLIP, {"kind": "gaussian_blur", "kernel_size": 9}],
}


def device_of(name: str, augment: Augmentation | None) -> Device:
    device = Device(
        torch.device(name),
        mean=MEAN,
        std=STD,
        precision="fp32",
        memory_format="channels_last",
        test_time=None,
    )
    if augment is not None:
        device._views = DeviceViews(augment, None)
    return device


def batch_of(images: np.ndarray, ids: np.ndarray, pending: Pending | None) -> Batch:
    ticket = Ticket(
        phase=0,
        epoch=0,
        step=0,
        shard=0,
        row_ids=ids,
        num_rows=len(ids),
        views=np.zeros(len(ids), np.int64),
    )
    return Batch(images=images, labels=np.zeros(len(ids), np.int64), ticket=ticket, pending=pending)


def made_here(stored: np.ndarray, ids: np.ndarray, *, augment: Augmentation, threads: int) -> Batch:
    images = augment.of_loaded(lambda rows: stored[ids[rows]], ids, epoch=0, threads=threads)
    return batch_of(images, ids, None)


def left_to_the_device(stored: np.ndarray, ids: np.ndarray) -> Batch:
    rows = RowViews(row_ids=ids, views=np.zeros(len(ids), np.int64))
    return batch_of(stored[ids], ids, Pending(rows=rows, own=np.arange(len(ids)), partners=None))


def pace(
    make: Callable[[np.ndarray, np.ndarray], Batch], stored: np.ndarray, device: Device, batch: int
) -> float:
    """One epoch in random order; the first batch only warms up."""
    order = np.random.default_rng(0).permutation(len(stored))
    started = 0.0
    for start in range(0, len(order), batch):
        pixels, _ = device.pixels(make(stored, order[start : start + batch]))
        device.normalised(pixels, None)
        if not start:
            _wait_for(device)
            started = time.perf_counter()
    _wait_for(device)
    return (len(order) - batch) / (time.perf_counter() - started)


def _wait_for(device: Device) -> None:
    if device.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--lists", default=",".join(LISTS))
    chosen = parser.parse_args()
    if chosen.rows <= chosen.batch:
        parser.error("--rows must be more than --batch: the first batch only warms up")
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()  # as in rayft's workers
    for name in chosen.lists.split(","):
        crops = RESIZED_CROP in LISTS[name]
        size = math.ceil(chosen.size * 8 / 7) if crops else chosen.size
        random = np.random.default_rng(0)
        stored = random.integers(0, 256, (chosen.rows, size, size, 3), np.uint8)
        specs = SPECS.validate_python(LISTS[name])
        augment = make_augmentation(specs, image_size=chosen.size, seed=0)
        here = partial(made_here, augment=augment, threads=chosen.threads)
        found = measure(
            {
                f"host, {chosen.threads} threads": partial(
                    pace, here, stored, device_of(chosen.device, None), chosen.batch
                ),
                f"device {chosen.device}": partial(
                    pace,
                    left_to_the_device,
                    stored,
                    device_of(chosen.device, augment),
                    chosen.batch,
                ),
            },
            rounds=chosen.rounds,
        )
        host, device = found.values()
        title = f"{name} at {chosen.size} px, batch {chosen.batch}"
        report(title, [host, device, ratio("device / host", device, host)], unit="images/s")


if __name__ == "__main__":
    main()
