"""What it costs in accuracy to keep what frozen layers make: views of each row, and number types.

    python -m tests.benchmarks.kept_accuracy views [--seeds 3]   1, 2, 4, 8 kept views, or new ones
    python -m tests.benchmarks.kept_accuracy types [--seeds 3]   fp32, bf16, fp16

Heads of MobileNetV2 at 96 px on 10,000 rows of CIFAR-10, 20 epochs, tested on all 10,000 test rows.
Figures of accuracy do not depend on what else the machine does.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.prefix import Command, head_spec
from tests.benchmarks.side_by_side import SHARED, commit, machine

AUGMENT = [{"kind": "horizontal_flip"}, {"kind": "random_crop", "padding": 12}]
VIEWS = (1, 2, 4, 8)
TYPES = ("fp32", "bf16", "fp16")


def small_spec(storage: str, **changes: Any) -> dict[str, Any]:
    """Return a spec of the heads alone, in one process, on a fifth of the rows."""
    raw = head_spec(
        storage,
        files="train-00000*",
        scaling={"num_workers": 0, "resources_per_worker": {"CPU": 1}},
    )
    del raw["data"]["validation"]
    raw["data"]["test"] = {"kind": "parquet", "path": str(SHARED / "data/cifar10/test-*")}
    return raw | changes


def accuracy(spec: dict[str, Any]) -> float:
    """Run a spec; return its accuracy on the test rows."""
    run = Command(spec)
    result = json.loads((run.folder / "result.json").read_bytes())
    found = float(result["metrics"]["test/accuracy"])
    print(f"    {spec['name']}: {found:.4f}, {run.seconds:.0f} s", flush=True)
    return found


def measure(
    title: str, contestants: Mapping[str, dict[str, Any]], seeds: int, storage: str
) -> None:
    """Run each contestant with every seed, and print a table."""
    found = {
        name: [
            accuracy(small_spec(storage, **spec, seed=seed, name=f"{name}-{seed}"))
            for seed in range(seeds)
        ]
        for name, spec in contestants.items()
    }
    print(f"\n### {title}\n\n{machine()}, commit {commit()}, {seeds} seeds; mean (least to most)\n")
    for name, values in found.items():
        least, most = min(values), max(values)
        print(f"* {name}: {statistics.mean(values):.4f} ({least:.4f} to {most:.4f})")


def views(seeds: int, storage: str) -> None:
    """Compare kept views with new ones in every epoch."""
    contestants: dict[str, dict[str, Any]] = {
        "none": {"augment": [], "cache": {"mode": "require"}},
        **{
            f"views-{number}": {"augment": AUGMENT, "cache": {"mode": "require", "views": number}}
            for number in VIEWS
        },
        "new": {"augment": AUGMENT, "cache": {"mode": "off"}},
    }
    measure("Views of each row", contestants, seeds, storage)


def types(seeds: int, storage: str) -> None:
    """Compare number types."""
    contestants: dict[str, dict[str, Any]] = {
        dtype: {"augment": [], "cache": {"mode": "require", "dtype": dtype}} for dtype in TYPES
    }
    measure("Number types", contestants, seeds, storage)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["views", "types"])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        {"views": views, "types": types}[args.what](args.seeds, str(Path(storage)))


if __name__ == "__main__":
    main()
