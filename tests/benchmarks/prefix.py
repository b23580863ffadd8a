"""What it saves to run frozen layers once: whole commands, with start-up, cache on against off.

    python -m tests.benchmarks.prefix head [--rounds 1]   heads of MobileNetV2 at 96 px, 20 epochs
    python -m tests.benchmarks.prefix top [--rounds 3]    layer4 of ResNet-18 at 96 px, an epoch
    python -m tests.benchmarks.prefix lp-ft               10 epochs of the heads, 3 of the top

Rows are CIFAR-10's, prepared beforehand; two workers with a thread each. `off` runs a few epochs
and is scaled: the rest of its epochs take what the measured ones did.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayft.data.prepare import prepare_dataset
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.dataset import Split, open_dataset
from tests.benchmarks.side_by_side import RAYFT, SHARED, cifar_spec, measure, ratio, report
from tests.benchmarks.usual_script import MEAN, STD, Trainer

SIZE, BATCH = 96, 256
EPOCHS, MEASURED = 20, 3


def head_spec(storage: str, *, files: str = "train-*", **changes: Any) -> dict[str, Any]:
    """Return a spec that trains the heads alone, without augmentation."""
    raw = cifar_spec(storage)
    raw["data"] |= {
        "train": {"kind": "parquet", "path": str(SHARED / f"data/cifar10/{files}")},
        "validation": {"fraction": 0.1},
    }
    raw |= {
        "augment": [],
        "phases": [{"name": "probe", "train": ["heads"], "for": f"{EPOCHS} epochs", "lr": 1e-2}],
        "global_batch_size": BATCH,
        "precision": "fp32",
        "scaling": {"num_workers": 2},
    }
    return raw | changes


def prepare(spec: dict[str, Any]) -> Split:
    """Prepare the rows, which neither side is to wait for; return those to train on."""
    parsed = RunSpec.model_validate(spec)
    prepared = prepare_dataset(
        parsed.data,
        base_dir=Path.cwd(),
        store_root=Location(spec["storage_path"]) / ".stores",
        image_size=SIZE,
        stored_size=SIZE,
        use_ray=False,
        on_progress=lambda done, total: None,
    )
    return open_dataset(prepared.ref).splits["train"]


class Command:
    """One `rayft train` with a cache of its own, and the times in its journal."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.folder = Path(spec["storage_path"], spec["name"])
        shutil.rmtree(self.folder, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(json.dumps(spec))
            file.flush()
            self.began = time.time()
            subprocess.run([RAYFT, "train", file.name, "--json"], capture_output=True, check=True)
        self.seconds = time.time() - self.began
        lines = (self.folder / "journal.jsonl").read_text().splitlines()
        self.events = [json.loads(line) for line in lines]

    @property
    def ends(self) -> list[float]:
        """Seconds from the start of the command to the end of each epoch."""
        return [float(e["time"]) - self.began for e in self.events if e["kind"] == "epoch"]

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch after the first, which pays for what is made only once."""
        ends = self.ends
        return (ends[-1] - ends[0]) / (len(ends) - 1)

    @property
    def first_step_s(self) -> float:
        """Seconds from the start of the command to the first step that was reported."""
        return next(float(e["time"]) for e in self.events if e["kind"] == "progress") - self.began


def forget(storage: str) -> None:
    """Remove all that is kept."""
    shutil.rmtree(Path(storage, ".stores", "activations"), ignore_errors=True)


def command(spec: dict[str, Any], mode: str, **changes: Any) -> Command:
    """Run a spec with the cache on or off."""
    return Command({**spec, "name": f"run-{mode}", "cache": {"mode": mode}, **changes})


def head(rounds: int) -> None:
    """Measure the heads alone against a cache that is off, and against scripts."""
    with tempfile.TemporaryDirectory() as storage:
        spec = head_spec(storage)
        split = prepare(spec)
        again: list[float] = []
        withouts: list[float] = []

        def cached() -> float:
            forget(storage)
            first = command(spec, "require")
            second = command(spec, "require")
            again.append(second.first_step_s / first.first_step_s)
            startup = second.seconds - second.epoch_s * EPOCHS
            print(f"    start-up about {startup:.1f} s, an epoch {second.epoch_s:.2f} s")
            withouts.append(first.seconds - startup)
            return first.seconds

        def off() -> float:
            found = command(spec, "off", phases=[{**spec["phases"][0], "for": "3 epochs"}])
            return found.seconds + (EPOCHS - MEASURED) * found.epoch_s

        figures = measure(
            {
                "rayft, cache on": cached,
                f"rayft, cache off ({MEASURED} epochs, scaled)": off,
                "script that runs all layers in every epoch (1 epoch, scaled)": lambda: (
                    EPOCHS * script_epoch(split)
                ),
                "one pass and 20 epochs of the head in memory": lambda: ideal(split),
            },
            rounds=rounds,
        )
        on, without, script, least = figures.values()
        figures_of_rayft = type(on)("rayft without its start-up", withouts)
        report(
            "Heads of MobileNetV2 at 96 px, 20 epochs of 45,000 rows",
            [
                *figures.values(),
                ratio("off / on, whole command", without, on),
                ratio("script / on, whole command", script, on),
                ratio("rayft without its start-up / least possible", figures_of_rayft, least),
                type(on)("second run / first, seconds to the first report", again),
            ],
            unit="seconds",
        )


def batches(split: Split, ids: Any, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised images and labels."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    for start in range(0, len(ids), size):
        rows = ids[start : start + size]
        images = torch.from_numpy(split.store.gather(rows)).permute(0, 3, 1, 2)
        yield (images.float() / 255 - mean) / std, torch.from_numpy(split.labels_of(rows))


def script_epoch(split: Split) -> float:
    """Return the seconds of an epoch of the plain script: forward without gradients, then a step.

    Its images lie decoded in memory; two threads, channels_last, fused AdamW.
    """
    torch.set_num_threads(2)
    trainer = Trainer(bf16=False, batch_norm_statistics=False)
    features, head = trainer.model.features.eval(), trainer.model.classifier
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, fused=True)
    started = time.perf_counter()
    for images, labels in batches(split, split.row_ids, BATCH):
        with torch.no_grad():
            made = features(images).mean([2, 3])
        _head_step(head, optimizer, made, labels)
    return time.perf_counter() - started


def ideal(split: Split) -> float:
    """Return the seconds of one pass over the rows and 20 epochs of the head in memory."""
    torch.set_num_threads(2)
    trainer = Trainer(bf16=False, batch_norm_statistics=False)
    features, head = trainer.model.features.eval(), trainer.model.classifier
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, fused=True)
    started = time.perf_counter()
    with torch.no_grad():
        made = [
            (features(images).mean([2, 3]), labels)
            for images, labels in batches(split, split.row_ids, BATCH)
        ]
    rows, labels = (torch.cat(parts) for parts in zip(*made, strict=True))
    for _ in range(EPOCHS):
        order = torch.randperm(len(rows))
        for start in range(0, len(rows), BATCH):
            chosen = order[start : start + BATCH]
            _head_step(head, optimizer, rows[chosen], labels[chosen])
    return time.perf_counter() - started


def _head_step(
    head: nn.Module, optimizer: torch.optim.Optimizer, made: Tensor, labels: Tensor
) -> None:
    torch.autograd.backward(F.cross_entropy(head(made), labels))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def top(rounds: int) -> None:
    """Measure an epoch of ResNet-18's layer4 and head at 96 px."""
    with tempfile.TemporaryDirectory() as storage:
        spec = head_spec(
            storage,
            files="train-00000*",
            phases=[{"name": "top", "train": ["heads", "layer4"], "for": "4 epochs", "lr": 1e-3}],
        )
        spec["model"]["backbone"] = {"kind": "torchvision", "name": "resnet18", "weights": "none"}
        prepare(spec)

        def epoch(mode: str) -> Callable[[], float]:
            return lambda: command(spec, mode).epoch_s

        figures = measure({"on": epoch("require"), "off": epoch("off")}, rounds=rounds)
        report(
            "Top of ResNet-18 at 96 px, seconds of an epoch of 9,000 rows",
            [*figures.values(), ratio("off / on", figures["off"], figures["on"])],
            unit="seconds",
        )


def lp_ft(rounds: int) -> None:
    """Measure 10 epochs of the heads and 3 of the last six groups, whole commands."""
    with tempfile.TemporaryDirectory() as storage:
        rates = {"heads": 1e-3, "backbone": 5e-4, "decay": 0.7}
        spec = head_spec(
            storage,
            files="train-0000[01]*",
            phases=[
                {"name": "probe", "train": ["heads"], "for": "10 epochs", "lr": 1e-2},
                {"name": "tune", "train": ["heads", "last 6"], "for": "3 epochs", "lr": rates},
            ],
        )
        prepare(spec)

        def whole(mode: str) -> float:
            forget(storage)
            return command(spec, mode).seconds

        figures = measure({"on": lambda: whole("auto"), "off": lambda: whole("off")}, rounds=rounds)
        report(
            "LP-FT of MobileNetV2 at 96 px, 10 and 3 epochs of 18,000 rows, whole commands",
            [*figures.values(), ratio("off / on", figures["off"], figures["on"])],
            unit="seconds",
        )


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["head", "top", "lp-ft"])
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    {"head": head, "top": top, "lp-ft": lp_ft}[args.what](args.rounds)


if __name__ == "__main__":
    main()
