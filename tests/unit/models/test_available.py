"""`rayft init` starts from weights that are really there."""

from importlib import util
from pathlib import Path

import pytest

from rayft.models import available
from rayft.models.available import suggest_backbone
from rayft.models.reachability import why_unreachable
from rayft.models.weights import resolve_weights
from rayft.spec.model import PackageWeights, TimmBackbone, TorchvisionBackbone


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub cache, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(available, "why_unreachable", lambda _url, *, timeout_s: "no network")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = PackageWeights(package="no_such_weights", resource="w.pth")
    monkeypatch.setattr(available, "_LITE0", absent)


def test_a_cached_file_comes_first(hub: Path) -> None:
    (hub / "resnet50-0676ba61.pth").touch()

    suggestion = suggest_backbone()

    assert suggestion.backbone == TorchvisionBackbone(
        kind="torchvision", name="resnet50", weights="IMAGENET1K_V1"
    )
    assert str(hub / "resnet50-0676ba61.pth") in suggestion.why


@pytest.mark.skipif(
    util.find_spec(available._LITE0.package) is None, reason="the package is not installed"
)
def test_the_package_comes_next_and_its_weights_resolve(tmp_path: Path) -> None:
    suggestion = suggest_backbone()

    assert isinstance(suggestion.backbone, TimmBackbone)
    loaded = resolve_weights(suggestion.backbone, base_dir=tmp_path)
    assert loaded is not None
    assert len(loaded.state) == 294


@pytest.mark.usefixtures("no_package")
def test_a_reachable_server_comes_third(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "why_unreachable", lambda _url, *, timeout_s: None)

    suggestion = suggest_backbone()

    assert suggestion.backbone.name == "mobilenet_v2"
    assert suggestion.backbone.weights == "IMAGENET1K_V2"


@pytest.mark.usefixtures("no_package")
def test_random_weights_come_last_with_the_reason() -> None:
    suggestion = suggest_backbone()

    assert suggestion.backbone.weights == "none"
    assert "no network" in suggestion.why


def test_a_closed_port_is_unreachable() -> None:
    assert why_unreachable("http://127.0.0.1:9/x", timeout_s=1.0) is not None
