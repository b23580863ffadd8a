"""Law 6: predicting rounds at the cut as training and evaluation do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.build import load_evaluated_weights, new_model
from rayft.engine.checkpoint_reading import Checkpoint, find_checkpoint, read_checkpoint
from rayft.engine.device import Device
from rayft.engine.placing import place
from rayft.engine.predict import Predictor, evaluated_weights, softmax, trained_model
from rayft.feed.feed import InProcessFeed
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from tests.laws.harness import make_test_plan
from tests.laws.test_prefix import HEADS, TOP, run, spec_of

CPU = torch.device("cpu")


def trained(spec: RunSpec, prepared: PreparedDataset, folder: Path) -> Checkpoint:
    run(spec, prepared, folder / "checkpoints")
    return read_checkpoint(find_checkpoint(Location(str(folder))))


def evaluated(
    spec: RunSpec, prepared: PreparedDataset, checkpoint: Checkpoint
) -> tuple[np.ndarray, np.ndarray]:
    """Return images, and their probabilities as `rayft evaluate` computes them."""
    plan = make_test_plan(spec, prepared)
    model = new_model(plan).eval()
    load_evaluated_weights(model, checkpoint.tensors)
    device = Device.of_run(plan, CPU)
    device.place(model)
    feed = InProcessFeed(plan, open_dataset(prepared.ref), rank=0)
    with feed.evaluation("validation") as batches, torch.no_grad():
        batch = next(batches)
        placed = place(batch, device=device, backbone=model.backbone)
        scores = device.scores(model, placed.inputs, placed.cut)["label"]
    assert batch.images is not None
    return batch.images, softmax(scores.float().numpy())


@pytest.mark.parametrize(
    "changes",
    [
        {"cache": {"mode": "require", "dtype": "bf16"}},
        {"cache": {"mode": "require", "dtype": "fp16"}, "phases": [HEADS]},
        {"precision": "bf16"},
        {"precision": "bf16", "cache": {"mode": "off"}},
        {"test_time": {"horizontal_flip": True}, "cache": {"mode": "require", "dtype": "bf16"}},
        {"phases": [TOP, {**HEADS, "name": "all", "train": ["all"]}]},
    ],
)
def test_predicting_sees_the_numbers_of_evaluation(
    prepared: PreparedDataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    spec = spec_of(**changes)
    checkpoint = trained(spec, prepared, tmp_path)
    images, expected = evaluated(spec, prepared, checkpoint)

    model = trained_model(checkpoint)
    weights = evaluated_weights(model, checkpoint)
    predictor = Predictor(model, weights, device=CPU, batch_size=len(images))

    np.testing.assert_allclose(predictor.probabilities(images), expected, rtol=1e-6)
