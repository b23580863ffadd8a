"""Sweeps as a journal tells them, for tests of tables and pictures."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayft.metrics.names import Direction
from rayft.plan.trials import Ending, Json, Point, Report, Status
from rayft.runtime.sweep_table import SweepHead, SweepTable, make_table
from rayft.spec.run import RunSpec

RUN: dict[str, Any] = {
    "name": "base",
    "data": {"train": {"kind": "csv", "path": "rows.csv"}, "validation": {"fraction": 0.1}},
    "model": {
        "backbone": {"kind": "torchvision", "name": "resnet18"},
        "heads": {"label": {"kind": "classification"}},
    },
    "phases": [
        {"name": "probe", "train": ["heads"], "for": "4 epochs", "lr": 1e-2},
        {"name": "tune", "train": ["all"], "for": "6 epochs", "lr": {"heads": 1e-3}},
    ],
}
SETTINGS = ("phases.0.lr", "optimizer.weight_decay", "model.backbone.name", "phases.1.train")
BACKBONES = ("resnet18", "resnet50", "mobilenet_v2")
TRAIN: tuple[list[Json], ...] = (
    ["heads", "layer4"],
    ["heads", "layer2", "layer3", "layer4", "conv1"],
    ["all"],
)


@dataclass(frozen=True)
class Trial:
    """What is known of a trial."""

    point: Point
    status: Status = "waiting"
    reports: tuple[Report, ...] = ()
    ending: Ending | None = None


def ended(point: Point, status: Status, *reports: Report, **known: Any) -> Trial:
    ending = Ending(trial=point.trial, status=status, **known)
    return Trial(point, status, reports, ending)


def finished(point: Point, value: float) -> Trial:
    return ended(point, "finished", metrics={"validation/accuracy": value})


def run() -> RunSpec:
    return RunSpec.model_validate(RUN)


def head(direction: Direction = "max", settings: Sequence[str] = SETTINGS) -> SweepHead:
    metric = "validation/accuracy" if direction == "max" else "validation/loss"
    return SweepHead(name="cifar", metric=metric, direction=direction, settings=tuple(settings))


def report(trial: int, phase: int, epoch: int, value: float, metric: str) -> Report:
    steps = (4 * phase + epoch) * 10
    return Report(trial=trial, phase=phase, epoch=epoch, steps_done=steps, metrics={metric: value})


def made_up(number: int, *, direction: Direction = "max", seed: int = 0) -> SweepTable:
    """Return a sweep that looks like one: rates over three powers of ten, most trials stopped.

    The learning rate decides most, the backbone something, the weight decay next to nothing. Trial
    4 is invalid, trial 6 fails, and trial 7 diverges.
    """
    draw = random.Random(seed)
    trials = [_made_up_trial(trial, direction, draw) for trial in range(number)]
    return make_table(head(direction), run(), trials)


def _made_up_trial(trial: int, direction: Direction, draw: random.Random) -> Trial:
    metric = head(direction).metric
    rate, backbone = 10 ** draw.uniform(-4.5, -0.5), draw.choice(BACKBONES)
    values: dict[str, Json] = {
        "phases.0.lr": rate,
        "optimizer.weight_decay": draw.choice([0.0, 0.01, 0.1]),
        "model.backbone.name": backbone,
        "phases.1.train": draw.choice(TRAIN),
    }
    point = Point(trial=trial, values=values if trial else {})
    if trial == 0:
        rate, backbone = 1e-2, "resnet18"
    if trial == 4:
        return ended(point, "invalid", reason="phases.0.lr: expected less than 1, found 3.0")
    goal = 0.85 - 0.12 * abs(math.log10(rate) + 2.3) + 0.04 * BACKBONES.index(backbone)
    curve = _curve(goal + draw.gauss(0, 0.01), draw, direction)
    status: Status = "stopped" if goal < 0.72 else "finished"
    length = draw.choice([1, 3]) if status == "stopped" else 10
    reason = f"asha: behind at phase 0, epoch {length}" if status == "stopped" else ""
    if trial == 6:
        status, length, reason = "failed", 3, "the node was lost 4 times in a row"
    if trial == 7:
        status, length, reason = "finished", 10, ""
        curve = [0.1] * 10 if direction == "max" else [2.0 * 4.0**step for step in range(10)]
    reports = [
        report(trial, *((0, step + 1) if step < 4 else (1, step - 3)), curve[step], metric)
        for step in range(length)
    ]
    return ended(
        point,
        status,
        *reports,
        metrics={metric: (max if direction == "max" else min)(curve[:length])},
        checkpoint=f"results/cifar/trials/trial-{trial:04d}/checkpoints/step-0000100",
        reason=reason,
        seconds=3.0 * length,
    )


def _curve(goal: float, draw: random.Random, direction: Direction) -> list[float]:
    curve = [
        goal * (1 - math.exp(-0.7 * (step + 1))) + draw.gauss(0, 0.006) + 0.03 * (step >= 4)
        for step in range(10)
    ]
    if direction == "max":
        return curve
    return [0.1 - 2.3 * math.log(min(max(value, 0.02), 0.99)) for value in curve]
