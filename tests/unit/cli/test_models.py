"""`rayft models` as people and scripts see it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rayft.cli.main import app


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, words)])


def test_a_part_of_a_name_lists_both_libraries(hub: Path) -> None:
    (hub / "resnet18-f37072fd.pth").touch()

    found = call("resnet18")
    listed = call("resnet1")

    assert found.exit_code == listed.exit_code == 0
    head, first, *_ = listed.output.splitlines()
    assert head.split() == ["torchvision", "parameters", "pixels", "groups", "features", "weights"]
    assert first.split()[:6] == ["resnet101", "42.5", "M", "224", "5", "2048"]
    assert first.endswith("  IMAGENET1K_V2, IMAGENET1K_V1")
    assert "IMAGENET1K_V1 (here)" in listed.output
    assert "\ntimm " in listed.output
    assert "next: rayft models NAME\n" in listed.output


def test_one_name_is_shown_in_full(hub: Path) -> None:
    (hub / "resnet18-f37072fd.pth").touch()

    found = call("resnet18", "--library", "torchvision")

    assert found.exit_code == 0
    lines = found.output.splitlines()
    assert lines[:5] == [
        "torchvision/resnet18",
        "  parameters  11.2 M, without the layer that makes class scores",
        "  images      224 px",
        "  features    512",
        "  groups      stem 9,536, layer1 0.1 M, layer2 0.5 M, layer3 2.1 M, layer4 8.4 M",
    ]
    assert f"  weights     IMAGENET1K_V1: here, {hub}/resnet18-f37072fd.pth" in lines
    assert lines[-1] == "next: rayft init --data FOLDER"


def test_without_a_pattern_timm_is_counted_not_listed() -> None:
    found = call()

    assert found.exit_code == 0
    assert "vit_b_16" in found.output
    assert "vit_tiny_patch16_224" not in found.output
    assert "timm has 1," in found.output
    assert "next: rayft models vit --library timm\n" in found.output


def test_many_models_of_timm_are_listed_without_their_size() -> None:
    found = call("vit_base*", "--library", "timm")

    assert found.exit_code == 0
    lines = found.output.splitlines()
    (line,) = [text for text in lines if text.startswith("vit_base_patch8_224 ")]
    assert line.split()[1] == "224"
    assert "augreg" in line


def test_scripts_read_one_line(hub: Path) -> None:
    (hub / "mobilenet_v2-b0353104.pth").touch()

    found = call("mobilenet_v2", "--json")

    (line,) = found.stdout.splitlines()
    result = json.loads(line)
    assert result["status"] == "listed"
    assert result["num_timm_models"] > 1000
    (model,) = result["models"]
    assert (model["library"], model["name"]) == ("torchvision", "mobilenet_v2")
    assert (model["image_size"], model["feature_dim"]) == (224, 1280)
    assert model["parameters"] == sum(group["parameters"] for group in model["groups"])
    assert [group["name"] for group in model["groups"]][:2] == ["stem", "block1"]
    cached = {weights["name"]: weights["cached"] for weights in model["weights"]}
    assert cached == {
        "IMAGENET1K_V2": None,
        "IMAGENET1K_V1": str(hub / "mobilenet_v2-b0353104.pth"),
    }


def test_an_unknown_name_is_refused_with_near_ones() -> None:
    found = call("resnet5O", "--json")

    assert found.exit_code == 2
    assert "error: PATTERN: no backbone of torchvision or timm" in found.stderr
    assert "`resnet50`" in found.stderr
    assert json.loads(found.stdout)["status"] == "refused"
