"""Sweeps: whole commands of `rayft tune`, against stock Ray Tune and against sharing nothing.

    python -m tests.benchmarks.sweep head24 [--rounds 1]   24 trials of the heads; stock is scaled
    python -m tests.benchmarks.sweep shared [--rounds 1]   8 trials with 5 epochs in common
    python -m tests.benchmarks.sweep overhead [--rounds 3] seconds of a lone trial beyond training
    python -m tests.benchmarks.sweep asha [--rounds 1]     16 random trials, ASHA against FIFO
    python -m tests.benchmarks.sweep depths [--rounds 1]   4 freeze depths with 10 rates each

MobileNetV2 on CIFAR-10 at 96 px. Every command begins with an empty storage path, unless it says
so, and ends when its process does: start-up, the preparing of rows and the end of Ray count.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.benchmarks.baselines.stock_tune import DECAYS, RATES
from tests.benchmarks.prefix import head_spec, prepare
from tests.benchmarks.side_by_side import RAYFT, ROOT, SHARED, Figure, measure, ratio, report

FILE = SHARED / "data/cifar10/train-00000-of-00005.parquet"
HEAD_TRIALS, STOCK_TRIALS, HEAD_EPOCHS, HEAD_ROWS = 24, 6, 10, 10_000
NOTHING_SHARED = {"fuse": "off", "share_phases": "off"}


class Tune:
    """One `rayft tune` from start to end, what it returned, and the journals of its trials."""

    def __init__(self, sweep: dict[str, Any]) -> None:
        self.folder = Path(sweep["storage_path"], sweep["name"])
        shutil.rmtree(self.folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as place:
            file = Path(place, "sweep.yaml")
            file.write_text(json.dumps(sweep))
            self.began = time.time()
            found = subprocess.run(
                [RAYFT, "tune", str(file), "--json"],
                capture_output=True,
                text=True,
                check=False,
            )
        if found.returncode:
            raise SystemExit(found.stderr)
        self.seconds = time.time() - self.began
        self.result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
        counts = self.result["counts"]
        if unwell := counts.keys() - {"finished", "stopped"}:
            print(f"    some trials are {', '.join(sorted(unwell))}: {counts}")

    @property
    def startup_s(self) -> float:
        """Seconds from the command to the first word of a trial."""
        first = [events[0]["time"] for events in self._journals()]
        return float(min(first)) - self.began

    @property
    def training_s(self) -> float:
        """Seconds of a lone trial from its first phase to the end of its last epoch, in the mean.

        It belongs to trials that ran in one attempt and by themselves.
        """
        spans = []
        for events in self._journals():
            begin = next(event["time"] for event in events if event["kind"] == "phase")
            end = [event["time"] for event in events if event["kind"] == "epoch"][-1]
            spans.append(end - begin)
        return sum(spans) / len(spans)

    @property
    def best(self) -> float:
        """The sweep's metric of the best trial."""
        return float(self.result["best"]["value"])

    @property
    def epochs(self) -> int:
        """Epochs of all trials together."""
        return sum(trial["epochs"] for trial in self.result["trials"])

    def _journals(self) -> list[list[dict[str, Any]]]:
        files = sorted(self.folder.glob("trials/*/journal.jsonl"))
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def sweep_of(run: dict[str, Any], space: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a sweep of a run, all points of a grid unless told otherwise."""
    raw: dict[str, Any] = {
        "name": "benchmark",
        "storage_path": run["storage_path"],
        "run": run,
        "space": space,
        "search": {"kind": "grid"},
        "metric": "validation/accuracy",
    }
    return raw | changes


def one_worker(storage: str, file: Path, phases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a run on one worker with one thread."""
    run = head_spec(
        storage,
        phases=phases,
        precision="auto",
        scaling={"num_workers": 1, "resources_per_worker": {"CPU": 1}},
    )
    run["data"]["train"]["path"] = str(file)
    return run


def phase(name: str, train: Sequence[str], epochs: int, lr: float) -> dict[str, Any]:
    """Return a phase that is a number of epochs long."""
    return {"name": name, "train": list(train), "for": f"{epochs} epochs", "lr": lr}


def choice(values: Sequence[Any]) -> dict[str, Any]:
    """Return a domain of a few values."""
    return {"choice": list(values)}


def fewer_rows(storage: str, number: int) -> Path:
    """Write a parquet file with so many rows."""
    file = Path(storage, "rows.parquet")
    if not file.is_file():
        pq.write_table(pq.read_table(FILE).slice(0, number), file)
    return file


def forget(storage: str) -> None:
    """Remove the rows and activations that are kept."""
    shutil.rmtree(Path(storage, ".stores"), ignore_errors=True)


def stock(**options: float | Sequence[float]) -> dict[str, Any]:
    """Run the script for stock Ray Tune with these options, and return its figures."""
    words = []
    for name, value in options.items():
        values = value if isinstance(value, Sequence) else [value]
        words += [f"--{name}", *map(str, values)]
    found = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.baselines.stock_tune", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        cwd=ROOT,
    )
    figures: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return figures


def scaled(seconds: float, startup: float, factor: float) -> float:
    """Return the seconds of more trials: those before the first trial come once."""
    return startup + (seconds - startup) * factor


def head24(rounds: int) -> None:
    """Measure 24 trials of the heads, 10 epochs of 10,000 rows, against stock Ray Tune."""
    with tempfile.TemporaryDirectory() as storage:
        run = one_worker(storage, FILE, [phase("probe", ["heads"], HEAD_EPOCHS, RATES[0])])
        # What a trial reserves is left to rayft.
        run["scaling"] = {"num_workers": 1}
        run["optimizer"] = {"kind": "adamw", "weight_decay": DECAYS[0]}
        space = {"phases.0.lr": choice(RATES), "optimizer.weight_decay": choice(DECAYS)}
        accuracies: dict[str, list[float]] = {"stock": [], "rayft": []}

        def by_stock() -> float:
            figures = stock(trials=STOCK_TRIALS, epochs=HEAD_EPOCHS, rows=HEAD_ROWS)
            accuracies["stock"].append(figures["accuracy"])
            factor = HEAD_TRIALS / STOCK_TRIALS
            return scaled(figures["seconds"], figures["startup_s"], factor)

        def by_rayft(**changes: Any) -> float:
            forget(storage)
            found = Tune(sweep_of(run, space, **changes))
            accuracies["rayft"].append(found.best)
            assert len(found.result["trials"]) == HEAD_TRIALS
            return found.seconds

        figures = measure(
            {
                f"stock Ray Tune and Train ({STOCK_TRIALS} trials, scaled)": by_stock,
                "rayft": by_rayft,
                "rayft, nothing fused": lambda: by_rayft(fuse="off"),
            },
            rounds=rounds,
        )
        theirs, ours, unfused = figures.values()
        report(
            "24 trials of the heads of MobileNetV2 at 96 px, 10 epochs of 10,000 rows",
            [
                *figures.values(),
                ratio("stock / rayft (goal 50)", theirs, ours),
                ratio("stock / rayft, nothing fused", theirs, unfused),
                *(Figure(f"best accuracy, {name}", found) for name, found in accuracies.items()),
            ],
            unit="seconds",
        )


def shared(rounds: int, *, rows: int = 1_500) -> None:
    """Measure 8 trials that share 5 epochs of all layers and then go their own way for 2.

    Each computes with two threads: on a machine of two cores a trial at a time, shared or not.
    """
    with tempfile.TemporaryDirectory() as storage:
        rates = [3e-5 * 2**number for number in range(8)]
        phases = [phase("all", ["all"], 5, 1e-3), phase("end", ["all"], 2, rates[0])]
        run = one_worker(storage, fewer_rows(storage, rows), phases)
        run["scaling"]["resources_per_worker"] = {"CPU": 2}
        space = {"phases.1.lr": choice(rates)}
        prepare(run)

        def seconds(share: str) -> float:
            return Tune(sweep_of(run, space, share_phases=share)).seconds

        figures = measure(
            {"unshared": lambda: seconds("off"), "shared": lambda: seconds("auto")}, rounds=rounds
        )
        last = ratio("unshared / shared (goal 2.3)", figures["unshared"], figures["shared"])
        report(
            f"8 trials: 5 epochs of all layers in common, 2 of their own; {rows:,} rows, prepared",
            [*figures.values(), last],
            unit="seconds",
        )


def overhead(rounds: int, *, few: int = 2, many: int = 12) -> None:
    """Measure what a lone trial on one worker costs beyond its training.

    It is what each further trial adds to the whole command, one at a time, less its training.
    """
    with tempfile.TemporaryDirectory() as storage:
        phases = [phase("probe", ["heads"], 2, 1e-3)]
        run = one_worker(storage, fewer_rows(storage, 1_000), phases)
        alone = NOTHING_SHARED | {"max_concurrent": 1}

        def sweep(number: int) -> Tune:
            space = {"phases.0.lr": choice([1e-3 * (1 + i) for i in range(number)])}
            return Tune(sweep_of(run, space, **alone))

        def beyond() -> float:
            first, second = sweep(few), sweep(many)
            each = (second.seconds - first.seconds) / (many - few)
            print(f"    a trial {each:.2f} s, its training {second.training_s:.2f} s")
            return each - second.training_s

        sweep(1)  # prepares the rows and what the frozen layers make of them
        figures = measure({"a trial beyond its training (goal 1.5)": beyond}, rounds=rounds)
        report("Lone trials on one worker, one at a time", [*figures.values()], unit="seconds")


def asha(rounds: int, *, rows: int = 400, trials: int = 16) -> None:
    """Measure ASHA against FIFO on the same random trials of all layers."""
    with tempfile.TemporaryDirectory() as storage:
        file = fewer_rows(storage, rows)
        run = one_worker(storage, file, [phase("all", ["all"], 9, 1e-3)])
        space = {"phases.0.lr": "loguniform(1e-5, 1e-1)"}
        bests: dict[str, list[float]] = {"fifo": [], "asha": []}
        epochs: dict[str, list[float]] = {"fifo": [], "asha": []}

        def seconds(kind: str) -> float:
            search = {"kind": "random", "num_trials": trials}
            found = Tune(sweep_of(run, space, search=search, scheduler={"kind": kind}))
            bests[kind].append(found.best)
            epochs[kind].append(found.epochs)
            return found.seconds

        prepare(run)
        figures = measure(
            {"FIFO": lambda: seconds("fifo"), "ASHA": lambda: seconds("asha")}, rounds=rounds
        )
        report(
            f"{trials} random rates of all layers, 9 epochs of {rows:,} rows, prepared",
            [
                *figures.values(),
                ratio("FIFO / ASHA", figures["FIFO"], figures["ASHA"]),
                *(Figure(f"best accuracy, {kind}", found) for kind, found in bests.items()),
                *(Figure(f"epochs, {kind}", found) for kind, found in epochs.items()),
            ],
            unit="seconds",
        )


def depths(rounds: int, *, rows: int = 1_000, epochs: int = 4) -> None:
    """Measure 4 freeze depths with 10 rates each against stock Ray Tune, and every trial by itself.

    Those two run one rate of each depth, and are scaled.
    """
    with tempfile.TemporaryDirectory() as storage:
        groups = (0, 2, 4, 6)
        trains = [["heads", *([f"last {number}"] if number else [])] for number in groups]
        rates = [1e-4 * 2**number for number in range(10)]
        file = fewer_rows(storage, rows)
        run = one_worker(storage, file, [phase("all", trains[0], epochs, rates[0])])

        def seconds(number: int, **changes: Any) -> float:
            forget(storage)
            space = {"phases.0.train": choice(trains), "phases.0.lr": choice(rates[:number])}
            cache = changes.pop("cache", "auto")
            found = Tune(sweep_of({**run, "cache": {"mode": cache}}, space, **changes))
            return scaled(found.seconds, found.startup_s, len(rates) / number)

        def by_stock() -> float:
            one = {"rates": rates[:1], "decays": [0.05]}
            found = stock(groups=groups, **one, epochs=epochs, rows=rows)
            return scaled(found["seconds"], found["startup_s"], len(rates))

        figures = measure(
            {
                "stock Ray Tune and Train (4 trials, scaled)": by_stock,
                "rayft, each trial by itself (4 trials, scaled)": lambda: seconds(
                    1, cache="off", **NOTHING_SHARED
                ),
                "rayft": lambda: seconds(len(rates)),
            },
            rounds=rounds,
        )
        theirs, alone, ours = figures.values()
        report(
            f"4 freeze depths, 10 rates each, {epochs} epochs of {rows:,} rows",
            [
                *figures.values(),
                ratio("stock / rayft", theirs, ours),
                ratio("each by itself / rayft", alone, ours),
            ],
            unit="seconds",
        )


TABLE: dict[str, tuple[Callable[[int], None], int]] = {
    "head24": (head24, 1),
    "shared": (shared, 1),
    "overhead": (overhead, 3),
    "asha": (asha, 1),
    "depths": (depths, 1),
}
"""What can be measured, and its usual number of rounds."""


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*TABLE])
    parser.add_argument("--rounds", type=int)
    args = parser.parse_args()
    run, rounds = TABLE[args.what]
    run(args.rounds or rounds)


if __name__ == "__main__":
    main()
