"""Measure contestants in turn within one run, and report ratios with their spread.

Machines are shared and noisy: an absolute time says little, a ratio of neighbours a lot. Each
round runs every contestant once; the ratio of a round uses the two figures of that round.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("RAYFT_SHARED", ROOT.parent / "shared"))
RAYFT = str(Path(sys.executable).parent / "rayft")


@dataclass(frozen=True)
class Figure:
    """Values of one contestant, one for each round."""

    name: str
    values: list[float]

    def text(self) -> str:
        middle = statistics.median(self.values)
        return f"{self.name}: {middle:,.4g} ({min(self.values):,.4g} to {max(self.values):,.4g})"


def measure(contestants: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, Figure]:
    """Run every contestant once a round; return their figures."""
    values: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, run in contestants.items():
            values[name].append(run())
            print(f"  round {number + 1}/{rounds} {name}: {values[name][-1]:,.4g}", flush=True)
    return {name: Figure(name, found) for name, found in values.items()}


def ratio(name: str, over: Figure, under: Figure) -> Figure:
    """Return the ratio of two contestants, round by round."""
    pairs = zip(over.values, under.values, strict=True)
    return Figure(name, [one / other for one, other in pairs])


def report(title: str, figures: list[Figure], *, unit: str) -> None:
    """Print an entry for docs/results/LOG.md: medians, with least and most."""
    print(f"\n### {title}\n\n{machine()}, commit {commit()}, {unit}; median (least to most)\n")
    for figure in figures:
        print(f"* {figure.text()}")


def machine() -> str:
    """Return the hardware in words, without naming the machine."""
    import torch

    model = "unknown CPU"
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    if torch.cuda.is_available():
        model += f", {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores of {model}, torch {torch.__version__}, {platform.system()}"


def commit() -> str:
    """Return the short hash of what is measured."""
    found = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def cifar_spec(storage: str, **changes: Any) -> dict[str, Any]:
    """Return a spec that fine-tunes the whole of MobileNetV2 on CIFAR-10 at 96 px."""
    raw: dict[str, Any] = {
        "name": "benchmark",
        "storage_path": storage,
        "data": {
            "train": {"kind": "parquet", "path": str(SHARED / "data/cifar10/train-0000[01]*")},
            "image_size": 96,
            "resize": "stretch",
        },
        "augment": [{"kind": "random_crop", "padding": 12}, {"kind": "horizontal_flip"}],
        "model": {
            "backbone": {
                "kind": "torchvision",
                "name": "mobilenet_v2",
                "weights": {
                    "file": str(SHARED / "models/mobilenet_v2-imagenet-features.safetensors")
                },
            },
            "heads": {"label": {"kind": "classification", "dropout": 0.2}},
        },
        "phases": [{"name": "all", "train": ["all"], "for": "60 steps", "lr": 1e-3}],
        "global_batch_size": 64,
        "checkpoint": {"interval_s": 3600},
    }
    return raw | changes


def rayft_train(spec: dict[str, Any]) -> dict[str, Any]:
    """Run `rayft train` as a user would, under a name of its own, and return its result."""
    with tempfile.TemporaryDirectory() as folder:
        name = f"benchmark-{Path(folder).name}"
        file = Path(folder, "spec.yaml")
        file.write_text(json.dumps({**spec, "name": name}))
        found = subprocess.run(
            [RAYFT, "train", str(file), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return result
