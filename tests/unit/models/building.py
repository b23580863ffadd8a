"""Specs, models and calls that the tests of weights share."""

import hashlib
from pathlib import Path

import pytest

from rayft.errors import ModelError
from rayft.models.model import FineTuneModel, make_model
from rayft.models.weights import LoadedWeights, resolve_weights
from rayft.spec.model import (
    ClassificationHead,
    ModelSpec,
    TimmBackbone,
    TorchvisionBackbone,
    WeightsSpec,
)

CLASSES = ("ant", "bee")


def spec_with(weights: WeightsSpec, name: str = "mobilenet_v2") -> TorchvisionBackbone:
    return TorchvisionBackbone(kind="torchvision", name=name, weights=weights)


def model_of(
    backbone: TorchvisionBackbone | TimmBackbone, classes: tuple[str, ...]
) -> FineTuneModel:
    head = ClassificationHead(kind="classification", hidden=(8,))
    spec = ModelSpec(backbone=backbone, heads={"label": head})
    return make_model(spec, num_classes=len(classes), seed=3).eval()


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def resolve(weights: WeightsSpec, base_dir: Path, name: str = "mobilenet_v2") -> LoadedWeights:
    loaded = resolve_weights(spec_with(weights, name), base_dir=base_dir)
    assert loaded is not None
    return loaded


def refusal(weights: WeightsSpec, base_dir: Path, name: str = "mobilenet_v2") -> str:
    with pytest.raises(ModelError) as caught:
        resolve_weights(spec_with(weights, name), base_dir=base_dir)
    assert all(problem.where.startswith("model.backbone") for problem in caught.value.problems)
    return str(caught.value)
