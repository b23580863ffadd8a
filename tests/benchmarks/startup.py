"""Seconds of `rayft --help`, `rayft validate`, and from the command to the first step.

python -m tests.benchmarks.startup [--rounds 5]
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

from tests.benchmarks.side_by_side import RAYFT, ROOT, cifar_spec, measure, report


def seconds(*arguments: str) -> float:
    """Return the wall clock of one command."""
    started = time.perf_counter()
    subprocess.run([RAYFT, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - started


def to_first_step(storage: str, number: int) -> float:
    """Return the seconds from the command to the journal's first report, after one step."""
    name = f"start-{number}"
    phases = [{"name": "all", "train": ["all"], "for": "20 steps", "lr": 1e-3}]
    spec = cifar_spec(storage, name=name, phases=phases)
    spec["data"]["train"]["path"] = spec["data"]["train"]["path"].replace("[01]", "0")
    # An epoch of less than 20 steps reports every step.
    spec["data"]["test"] = {"fraction": 0.9}
    file = Path(storage, f"{name}.yaml")
    file.write_text(json.dumps(spec))
    journal = Path(storage, name, "journal.jsonl")
    started = time.perf_counter()
    process = subprocess.Popen(
        [RAYFT, "train", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not (journal.is_file() and '"progress"' in journal.read_text()):
            if process.poll() is not None:
                raise RuntimeError("the run ended before its first step")
            time.sleep(0.01)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as storage:
        to_first_step(storage, 0)  # builds the row store and warms the page cache
        numbers = iter(range(1, 1000))
        found = measure(
            {
                "rayft --help": lambda: seconds("--help"),
                "rayft validate": lambda: seconds("validate", "jobs/quickstart.yaml"),
                "command to first step": lambda: to_first_step(storage, next(numbers)),
            },
            rounds=rounds,
        )
    report("Start-up, page cache warm, row store built", list(found.values()), unit="seconds")


if __name__ == "__main__":
    main()
