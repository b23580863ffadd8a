"""A sweep as a competent user of Ray Tune and Ray Train writes it: the yardstick for `rayft tune`.

    python -m tests.benchmarks.baselines.stock_tune [--trials 24] [--epochs 10] [--rows 10000]
        [--groups 0] [--rates 1e-4 ...] [--decays 0 ...]

MobileNetV2 on CIFAR-10 at 96 px, over numbers of last groups that train beside the head, learning
rates and weight decays. Nothing in it is slow on purpose: pictures are decoded and resized once,
before any trial, and shared through Ray's object store without a copy; batches are slices of that
array (a DataLoader of one process would only add to them); the frozen features run in eval mode
without gradients, in `channels_last`, and in bf16 where that is measured to be faster; the driver
of a trial reserves no CPU, so that as many trials train as there are cores; only the last epoch
writes a checkpoint.

The last line of the output is JSON: seconds in all, and seconds before the first trial.
"""

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import ray
import ray.train
import ray.train.torch
import torch
import torch.nn.functional as F
from PIL import Image
from ray import tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from tests.benchmarks.side_by_side import SHARED

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE, BATCH, CLASSES = 96, 256, 10
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
DECAYS = (0.0, 0.01, 0.05, 0.1)
GROUPS = (0,)

Point = dict[str, float]
Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def read_rows(number: int) -> Arrays:
    """Return pictures [N, 96, 96, 3] and labels [N], decoded and resized once."""
    pictures = np.empty((number, SIZE, SIZE, 3), np.uint8)
    labels = np.empty(number, np.int64)
    done = 0
    for file in sorted((SHARED / "data/cifar10").glob("train-*.parquet")):
        table = pq.read_table(file, columns=["image", "label"])
        for row in table.slice(0, number - done).to_pylist():
            with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
                pictures[done] = image.convert("RGB").resize(
                    (SIZE, SIZE), Image.Resampling.BILINEAR
                )
            labels[done] = row["label"]
            done += 1
        if done == number:
            return pictures, labels
    raise SystemExit(f"there are {done:,} rows, not {number:,}")


def make_model(trained: int = 0) -> nn.Module:
    """Return MobileNetV2 with pretrained features and a new classifier.

    Args:
        trained: how many of the last groups of the features train; those below are frozen.
    """
    model = mobilenet_v2(num_classes=CLASSES)
    state = load_file(SHARED / "models/mobilenet_v2-imagenet-features.safetensors")
    model.load_state_dict(state, strict=False)
    frozen_part(model, trained).requires_grad_(requires_grad=False)
    return model.to(memory_format=torch.channels_last)


def frozen_part(model: nn.Module, trained: int) -> nn.Sequential:
    """Return the groups of the features that are frozen."""
    features: nn.Sequential = model.features
    return features[: len(features) - trained]


def batch_of(arrays: Arrays, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return normalised pictures in `channels_last`, and labels."""
    pictures, labels = arrays
    mean, std = (torch.tensor(each).mul(255).view(1, 3, 1, 1) for each in (MEAN, STD))
    # A picture of the array has its channels last already: permuting copies nothing.
    images = torch.from_numpy(pictures[rows]).permute(0, 3, 1, 2).float()
    return images.sub_(mean).div_(std), torch.from_numpy(labels[rows])


def features_of(model: nn.Module, images: Tensor, *, trained: int, bf16: bool) -> Tensor:
    """Return pooled features [B, 1280], with gradients for the last `trained` groups."""
    frozen = frozen_part(model, trained)
    with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
        with torch.no_grad():
            made = frozen(images)
        return model.features[len(frozen) :](made).mean([2, 3]).float()


def bf16_is_faster() -> bool:
    """Measure both kinds of arithmetic on one thread, as a trial has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = make_model().eval()
    images = torch.randn(64, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    seconds = {}
    for bf16 in (False, True):
        features_of(model, images, trained=0, bf16=bf16)
        started = time.perf_counter()
        for _ in range(3):
            features_of(model, images, trained=0, bf16=bf16)
        seconds[bf16] = time.perf_counter() - started
    torch.set_num_threads(threads)
    return seconds[True] < seconds[False]


def train_loop(config: dict[str, Any]) -> None:
    """Train the classifier; report the accuracy on a tenth of the rows after every epoch."""
    torch.manual_seed(0)
    arrays: Arrays = ray.get(config["rows"])
    order = np.random.default_rng(0).permutation(len(arrays[1]))
    held_out, rows = order[: len(order) // 10], order[len(order) // 10 :]
    trained, bf16 = config["groups"], config["bf16"]
    model = ray.train.torch.prepare_model(make_model(trained))
    optimizer = torch.optim.AdamW(
        [each for each in model.parameters() if each.requires_grad],
        lr=config["lr"],
        weight_decay=config["weight_decay"],
        fused=True,
    )
    steps = config["epochs"] * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    shuffle = np.random.default_rng(1)
    for epoch in range(config["epochs"]):
        model.train()
        frozen_part(model, trained).eval()
        shuffled = shuffle.permutation(rows)
        for start in range(0, len(rows), BATCH):
            images, labels = batch_of(arrays, shuffled[start : start + BATCH])
            made = features_of(model, images, trained=trained, bf16=bf16)
            F.cross_entropy(model.classifier(made), labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        metrics = {"accuracy": accuracy(model, arrays, held_out, bf16=bf16)}
        if epoch + 1 == config["epochs"]:
            with tempfile.TemporaryDirectory() as folder:
                torch.save(model.state_dict(), Path(folder, "model.pt"))
                checkpoint = ray.train.Checkpoint.from_directory(folder)
                ray.train.report(metrics, checkpoint=checkpoint)
        else:
            ray.train.report(metrics)


@torch.no_grad()
def accuracy(model: nn.Module, arrays: Arrays, rows: npt.NDArray[np.int64], *, bf16: bool) -> float:
    """Return the share of rows that get their own label."""
    model.eval()
    right = 0
    for start in range(0, len(rows), BATCH):
        images, labels = batch_of(arrays, rows[start : start + BATCH])
        scores = model.classifier(features_of(model, images, trained=0, bf16=bf16))
        right += int((scores.argmax(1) == labels).sum())
    return right / max(1, len(rows))


def train_driver(config: dict[str, Any], shared: dict[str, Any]) -> None:
    """Run one trial: a trainer with one worker, whose reports go on to Tune."""
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={**config["point"], **shared},
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(
            name=f"train-{tune.get_context().get_trial_id()}",
            storage_path=shared["storage_path"],
            callbacks=[TuneReportCallback()],
        ),
    )
    trainer.fit()


def sweep(points: Sequence[Point], epochs: int, rows: int) -> dict[str, Any]:
    """Run the sweep on a cluster of its own, and return its figures."""
    started = time.perf_counter()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="stock-") as folder:
        ray.init(num_cpus=cores, _temp_dir=f"{folder}/ray", log_to_driver=False)
        try:
            shared = {
                "rows": ray.put(read_rows(rows)),
                "bf16": bf16_is_faster(),
                "epochs": epochs,
                "storage_path": f"{folder}/results",
            }
            startup = time.perf_counter() - started
            driver = tune.with_parameters(train_driver, shared=shared)
            tuner = tune.Tuner(
                # Any part of a CPU would leave no room for the last worker.
                tune.with_resources(driver, {"memory": 1e6}),
                param_space={"point": tune.grid_search(list(points))},
                tune_config=tune.TuneConfig(
                    metric="accuracy", mode="max", max_concurrent_trials=cores
                ),
                run_config=tune.RunConfig(storage_path=f"{folder}/results", verbose=0),
            )
            results = tuner.fit()
            if results.num_errors:
                raise SystemExit(str(results.errors[0]))
            metrics = results.get_best_result().metrics
            assert metrics is not None
            return {
                "trials": len(results),
                "epochs": epochs,
                "rows": rows,
                "bf16": shared["bf16"],
                "accuracy": metrics["accuracy"],
                "startup_s": startup,
                "seconds": time.perf_counter() - started,
            }
        finally:
            ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, help="the first so many of the grid; all")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--decays", type=float, nargs="+", default=DECAYS)
    args = parser.parse_args()
    points = [
        {"groups": groups, "lr": rate, "weight_decay": decay}
        for groups, rate, decay in product(args.groups, args.rates, args.decays)
    ]
    print(json.dumps(sweep(points[: args.trials], args.epochs, args.rows)))


if __name__ == "__main__":
    main()
