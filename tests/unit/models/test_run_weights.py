"""Weights of an earlier run: the backbone whole, the head class by class."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rayft.models.model import FineTuneModel
from rayft.models.weights import load_weights
from rayft.spec.model import (
    RunWeights,
)
from tests.unit.models.building import model_of, refusal, resolve, spec_with


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, FineTuneModel]:
    """A run folder with one checkpoint, and the model in it."""
    model = model_of(spec_with("none", "resnet18"), ("ant", "bee", "cat"))
    folder = tmp_path / "run" / "checkpoints" / "step-7"
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps({"classes": {"label": ["ant", "bee", "cat"]}}))
    (folder.parent / "best").write_text("step-7\n")
    return tmp_path / "run", model


@pytest.mark.parametrize("below", ["", "checkpoints/step-7"])
def test_an_earlier_run_gives_backbone_and_rows_of_known_classes(
    run: tuple[Path, FineTuneModel], below: str
) -> None:
    folder, old = run
    classes = ("cat", "dog")
    new = model_of(spec_with("none", "resnet18"), classes)
    loaded = resolve(RunWeights(checkpoint=str(folder / below)), Path(), "resnet18")

    words = load_weights(new, loaded, classes=classes)

    assert "1 of 2 classes copied" in words
    olds, news = old.state_dict(), new.state_dict()
    assert all(torch.equal(olds[n], news[n]) for n in olds if n.startswith("backbone."))
    rows = "heads.label.output.weight"
    assert torch.equal(news[rows][0], olds[rows][2])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "is no checkpoint" in refusal(RunWeights(checkpoint="."), tmp_path)


def test_a_checkpoint_without_classes_is_refused(run: tuple[Path, FineTuneModel]) -> None:
    folder, _ = run
    (folder / "checkpoints" / "step-7" / "manifest.json").write_text("{}")

    message = refusal(RunWeights(checkpoint="run"), folder.parent, "resnet18")
    assert "does not name the classes" in message


def test_a_checkpoint_that_differs_from_its_manifest_is_refused(
    run: tuple[Path, FineTuneModel],
) -> None:
    folder, _ = run
    files = {"model.safetensors": {"bytes": 1, "sha256": "0" * 64}}
    manifest = {"classes": {"label": ["ant", "bee", "cat"]}, "files": files}
    (folder / "checkpoints" / "step-7" / "manifest.json").write_text(json.dumps(manifest))

    assert f"expected {'0' * 64}" in refusal(
        RunWeights(checkpoint="run"), folder.parent, "resnet18"
    )
