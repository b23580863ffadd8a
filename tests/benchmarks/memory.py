"""Resident memory of a Ray Train worker after 20 epochs against after 2.

python -m tests.benchmarks.memory
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from tests.benchmarks.side_by_side import RAYFT, Figure, cifar_spec, report

EPOCHS = 20


def main() -> None:
    with tempfile.TemporaryDirectory() as storage:
        spec = cifar_spec(
            storage,
            name="memory",
            phases=[
                {"name": "top", "train": ["heads", "last 2"], "for": f"{EPOCHS} epochs", "lr": 1e-3}
            ],
        )
        spec["data"]["train"]["path"] = spec["data"]["train"]["path"].replace("[01]", "0")
        # A tenth of the rows for training keeps this to minutes; evaluation runs every epoch too.
        spec["data"]["validation"] = {"fraction": 0.1}
        spec["data"]["test"] = {"fraction": 0.7}
        file = Path(storage, "spec.yaml")
        file.write_text(json.dumps(spec))
        process = subprocess.Popen(
            [RAYFT, "train", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        resident = _watch(process, Path(storage, "memory", "journal.jsonl"))
        process.wait()
    early, late = resident[2], resident[EPOCHS]
    figures = [
        Figure("MiB after 2 epochs", [early / 2**20]),
        Figure(f"MiB after {EPOCHS} epochs", [late / 2**20]),
        Figure("ratio", [late / early]),
    ]
    report(f"Memory of a worker over {EPOCHS} epochs", figures, unit="private resident memory")


def _watch(process: "subprocess.Popen[bytes]", journal: Path) -> dict[int, int]:
    """Return the worker's private resident bytes at the end of every epoch."""
    resident: dict[int, int] = {}
    while process.poll() is None:
        epochs = journal.read_text().count('"kind": "epoch"') if journal.is_file() else 0
        if epochs and epochs not in resident:
            resident[epochs] = _worker_bytes(process.pid)
        time.sleep(0.02)
    return resident


def _worker_bytes(driver: int) -> int:
    for child in psutil.Process(driver).children(recursive=True):
        if "RayTrainWorker" in " ".join(child.cmdline()):
            # Pages of the mapped row store belong to the page cache, not to the worker.
            return int(child.memory_full_info().uss)
    raise RuntimeError(f"process {os.getpid()} sees no train worker")


if __name__ == "__main__":
    main()
