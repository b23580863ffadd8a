"""A run in this process on a GPU: it learns, resumes, and is evaluated as it was trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.build import load_evaluated_weights
from rayft.engine.checkpoint_reading import read_checkpoint
from rayft.engine.device import Device
from rayft.engine.evaluation import evaluate
from rayft.engine.loop import train
from rayft.engine.ports import OneRank
from rayft.engine.run import Run
from rayft.errors import Stopped
from rayft.feed.feed import InProcessFeed
from rayft.models.model import make_model
from rayft.plan.run_plan import RunPlan
from rayft.store.dataset import open_dataset
from tests.gpu.harness import DEVICE, plan_on_device, spec_on_device, start_run
from tests.gpu.marks import ON_CUDA
from tests.laws.harness import Recorder

pytestmark = ON_CUDA

TOLERANCE = {"fp32": 1e-3, "bf16": 1e-2}
"""Largest difference of a weight or a metric, and its share, between two runs of the same 12 steps:
a GPU adds up gradients in no fixed order, and bf16 rounds what comes of it to 3 digits."""


def _plan(prepared: PreparedDataset, precision: str, *, epochs: int = 3, **changes: Any) -> RunPlan:
    phase = {"name": "all", "train": ["all"], "for": f"{epochs} epochs", "lr": 0.03}
    # Random weights have no statistics worth keeping.
    spec = spec_on_device(precision=precision, phases=[phase], batch_norm="local", **changes)
    plan = plan_on_device(spec, prepared)
    assert plan.resources.device == DEVICE
    assert plan.precision == precision
    return plan


def _state(run: Run) -> dict[str, np.ndarray]:
    """Return weights, buffers, moments and averages."""
    tensors = run.snapshot().tensors
    return {
        f"{kind} {name}": value.cpu().numpy()
        for kind, values in tensors.items()
        for name, value in values.items()
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_falls(prepared: PreparedDataset, tmp_path: Path, precision: str) -> None:
    events = Recorder()

    run = start_run(_plan(prepared, precision, epochs=6), prepared, tmp_path, events=events)
    train(run)

    epochs = [event["metrics"] for event in events.events if event["kind"] == "epoch"]
    losses = [metrics["train/loss"] for metrics in epochs]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.6 * losses[0]
    assert all(parameter.is_cuda for parameter in run.model.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in run.model.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("steps", [2, 6])
def test_stopped_and_resumed_comes_to_the_weights_of_a_run_that_went_through(
    prepared: PreparedDataset, tmp_path: Path, precision: str, steps: int
) -> None:
    plan = _plan(prepared, precision, ema={"decay": 0.9})
    whole = start_run(plan, prepared, tmp_path / "whole", events=Recorder())
    train(whole)

    stopped = start_run(plan, prepared, tmp_path / "stopped", events=Recorder(stop_after=steps))
    with pytest.raises(Stopped):
        train(stopped)
    events = Recorder()
    resumed = start_run(plan, prepared, tmp_path / "stopped", events=events)
    train(resumed)

    assert events.events[0] == {
        "kind": "resumed",
        "name": f"step-{steps:010d}",
        "steps_done": steps,
    }
    assert events.events[-1]["kind"] == "checkpoint"
    found = _state(resumed)
    for name, value in _state(whole).items():
        np.testing.assert_allclose(
            found[name],
            value,
            atol=TOLERANCE[precision],
            rtol=TOLERANCE[precision],
            err_msg=name,
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_checkpoint_alone_is_evaluated_as_training_did_last(
    prepared: PreparedDataset, tmp_path: Path, precision: str
) -> None:
    plan = _plan(prepared, precision, ema={"decay": 0.9})
    run = start_run(plan, prepared, tmp_path, events=Recorder())
    train(run)
    newest = run.checkpoints.names()[-1]

    checkpoint = read_checkpoint(run.checkpoints.place / newest)
    device = Device.of_run(plan, torch.device(DEVICE))
    model = make_model(plan.spec.model, num_classes=3, seed=plan.spec.seed + 1)
    load_evaluated_weights(model, checkpoint.tensors)
    report = evaluate(
        device.place(model),
        InProcessFeed(plan, open_dataset(prepared.ref), rank=0),
        "validation",
        device=device,
        ranks=OneRank(),
        classes=plan.data.classes,
    )

    found = report.metrics(prefix="validation/")
    last = {name: value for name, value in run.metrics.items() if name != "train/loss"}
    assert last
    for name, value in last.items():
        assert found[name] == pytest.approx(value, abs=TOLERANCE[precision]), name
