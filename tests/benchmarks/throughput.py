"""Rows per second of `rayft train` against the same step in memory and the usual script.

python -m tests.benchmarks.throughput [--rounds 3] [--steps 60]
"""

import argparse
import itertools
import tempfile

import torch

from tests.benchmarks.side_by_side import cifar_spec, measure, ratio, rayft_train, report
from tests.benchmarks.usual_script import Trainer, loader, rows_per_s

BATCH, SIZE = 64, 96


def in_memory(*, bf16: bool, steps: int) -> float:
    """The step alone, on one batch held in memory: what the machine can do at most."""
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10
    trainer = Trainer(bf16=bf16, batch_norm_statistics=False)
    return rows_per_s(itertools.repeat((images, labels)), trainer, steps=steps)


def usual(*, bf16: bool, steps: int) -> float:
    """The script people write: DataLoader, per-image transforms, batch norm in training mode."""
    batches = iter(loader(SIZE, batch_size=BATCH))
    return rows_per_s(batches, Trainer(bf16=bf16, batch_norm_statistics=True), steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    chosen = parser.parse_args()
    steps = chosen.steps
    with tempfile.TemporaryDirectory() as storage:
        phases = [{"name": "all", "train": ["all"], "for": f"{steps} steps", "lr": 1e-3}]

        def rayft(precision: str, steps_phases: list[dict[str, object]] = phases) -> float:
            spec = cifar_spec(storage, precision=precision, phases=steps_phases)
            return float(rayft_train(spec)["throughput"]["rows_per_s"])

        rayft("fp32", [{**phases[0], "for": "2 steps"}])  # builds the row store
        found = measure(
            {
                "rayft bf16": lambda: rayft("bf16"),
                "in memory bf16": lambda: in_memory(bf16=True, steps=steps),
                "usual script bf16": lambda: usual(bf16=True, steps=steps),
                "usual script fp32": lambda: usual(bf16=False, steps=steps),
                "rayft fp32": lambda: rayft("fp32"),
                "in memory fp32": lambda: in_memory(bf16=False, steps=steps),
            },
            rounds=chosen.rounds,
        )
    figures = [
        *found.values(),
        ratio("rayft / in memory, bf16", found["rayft bf16"], found["in memory bf16"]),
        ratio("rayft / in memory, fp32", found["rayft fp32"], found["in memory fp32"]),
        ratio("rayft bf16 / usual fp32", found["rayft bf16"], found["usual script fp32"]),
        ratio("rayft fp32 / usual fp32", found["rayft fp32"], found["usual script fp32"]),
        ratio("rayft bf16 / usual bf16", found["rayft bf16"], found["usual script bf16"]),
    ]
    report("Throughput, MobileNetV2 at 96 px, batch 64", figures, unit="rows/s")


if __name__ == "__main__":
    main()
