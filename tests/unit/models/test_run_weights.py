"""Weights of an earlier run: the backbone whole, the head class by class."""

import hashlib
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
    """A checkpoint, and the model in it."""
    model = model_of(spec_with("none", "resnet18"), ("ant", "bee", "cat"))
    folder = tmp_path / "run" / "checkpoints" / "step-7"
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps({"classes": {"label": ["ant", "bee", "cat"]}}))
    return folder, model


def test_an_earlier_run_gives_backbone_and_rows_of_known_classes(
    run: tuple[Path, FineTuneModel],
) -> None:
    folder, old = run
    classes = ("cat", "dog")
    new = model_of(spec_with("none", "resnet18"), classes)
    loaded = resolve(RunWeights(checkpoint=str(folder)), Path(), "resnet18")

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
    (folder / "manifest.json").write_text("{}")

    message = refusal(RunWeights(checkpoint="step-7"), folder.parent, "resnet18")
    assert "does not name the classes" in message


def test_a_checkpoint_that_differs_from_its_manifest_is_refused(
    run: tuple[Path, FineTuneModel],
) -> None:
    folder, _ = run
    files = {"model.safetensors": {"bytes": 1, "sha256": "0" * 64}}
    manifest = {"classes": {"label": ["ant", "bee", "cat"]}, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    assert f"expected {'0' * 64}" in refusal(
        RunWeights(checkpoint="step-7"), folder.parent, "resnet18"
    )


def test_averages_of_an_earlier_run_are_taken_where_there_are_any(
    run: tuple[Path, FineTuneModel],
) -> None:
    folder, _ = run
    name = "backbone.net.layer4.1.conv2.weight"
    average = {name: torch.full((512, 512, 3, 3), 0.5), "num_updates": torch.tensor(9)}
    save_file(average, folder / "average.safetensors")
    files = {
        file: {"sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest()}
        for file in ("model.safetensors", "average.safetensors")
    }
    manifest = {"classes": {"label": ["ant", "bee", "cat"]}, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    loaded = resolve(RunWeights(checkpoint=str(folder)), Path(), "resnet18")

    assert loaded is not None
    assert torch.equal(loaded.state["layer4.1.conv2.weight"], average[name])
