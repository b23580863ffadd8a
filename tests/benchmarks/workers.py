"""Two DDP workers with a thread each against one worker with two; `reduction: exact`'s price.

python -m tests.benchmarks.workers [--rounds 3] [--steps 60]
"""

import argparse
import tempfile
from typing import Any

from tests.benchmarks.side_by_side import cifar_spec, measure, ratio, rayft_train, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:

        def rayft(num_workers: int, cpus: int, **changes: Any) -> float:
            steps = changes.pop("steps", chosen.steps)
            phases = [{"name": "all", "train": ["all"], "for": f"{steps} steps", "lr": 1e-3}]
            scaling = {"num_workers": num_workers, "resources_per_worker": {"CPU": cpus}}
            spec = cifar_spec(storage, phases=phases, scaling=scaling, **changes)
            return float(rayft_train(spec)["throughput"]["rows_per_s"])

        rayft(1, 2, steps=2)  # builds the row store
        found = measure(
            {
                "1 worker, 2 threads": lambda: rayft(1, 2),
                "2 workers, 1 thread": lambda: rayft(2, 1),
                "2 workers, exact, 2 shards": lambda: rayft(
                    2, 1, reduction={"kind": "exact", "shards": 2}
                ),
                "2 workers, exact, 4 shards": lambda: rayft(
                    2, 1, reduction={"kind": "exact", "shards": 4}
                ),
            },
            rounds=chosen.rounds,
        )
    one, two, exact2, exact4 = found.values()
    figures = [
        *found.values(),
        ratio("2 workers / 1 worker", two, one),
        ratio("exact with 2 shards / default, 2 workers", exact2, two),
        ratio("exact with 4 shards / default, 2 workers", exact4, two),
    ]
    report("Workers and exact reduction, MobileNetV2 at 96 px, batch 64", figures, unit="rows/s")


if __name__ == "__main__":
    main()
