"""A checkpoint with random weights and folders of pictures, made in a second."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.checkpoint_reading import Checkpoint
from rayft.models.model import FineTuneModel, make_model
from rayft.storage.location import Location
from tests.laws.harness import SIZE, make_spec
from tests.unit.conftest import make_image_file

CLASSES = ("ant", "bee", "cat")


def random_model(spec: Any, *, seed: int, num_classes: int = 3) -> FineTuneModel:
    """Return a model whose scores differ clearly from picture to picture."""
    model = make_model(spec.model, num_classes=num_classes, seed=seed, channels=spec.data.channels)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for name, parameter in model.heads.named_parameters():
            if name.endswith("weight"):
                parameter.mul_(30)
    return model


def make_checkpoint(
    run: Location, *, seed: int = 1, average: bool = False, precision: str = "fp32", **spec: Any
) -> Location:
    """Save a checkpoint as the best of a run; return the run."""
    asked = make_spec(**spec)
    model = random_model(asked, seed=seed)
    tensors = {"model": dict(model.state_dict())}
    if average:
        tensors["average"] = dict(random_model(asked, seed=seed + 1).named_parameters())
    manifest: dict[str, Any] = {
        "spec": asked.model_dump(mode="json", by_alias=True),
        "classes": {"label": list(CLASSES)},
        "image_size": SIZE,
        "mean": [0.4, 0.5, 0.6, 0.7][: asked.data.channels],
        "std": [0.2, 0.25, 0.3, 0.35][: asked.data.channels],
        "precision": precision,
    }
    CheckpointFolder(run / "checkpoints").save(
        "step-1", Checkpoint(tensors=tensors, manifest=manifest), best="step-1"
    )
    return run


def make_photos(folder: Location, count: int, *, bad: tuple[int, ...] = ()) -> Location:
    """Write pictures of noise, some of which cannot be read."""
    for number in range(count):
        content = make_image_file(number, size=(40 + number % 5, 36))
        (folder / f"{number:04d}.png").write_bytes(b"no image" if number in bad else content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the parts in a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def predictions(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all parts."""
    rows: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return rows


def probabilities(folder: Path) -> np.ndarray:
    """Return the probabilities [N, C] of all parts."""
    return np.array([row["probabilities"] for row in predictions(folder)], np.float32)
