"""Networks that are built for one size of images: at other sizes their positions are resampled."""

import pytest
import torch
import torch.nn.functional as F

from rayft.errors import ModelError
from rayft.models.backbone import Backbone, make_backbone
from rayft.models.facts import model_facts
from rayft.models.matching import match_by_name
from rayft.models.other_sizes import check_image_sizes
from rayft.spec.model import (
    BackboneSpec,
    ClassificationHead,
    ModelSpec,
    TimmBackbone,
    TorchvisionBackbone,
)

VIT = TorchvisionBackbone(kind="torchvision", name="vit_b_32", weights="none")
SMALL_VIT = TimmBackbone(kind="timm", name="test_vit", weights="none")
TIMM_VIT = TimmBackbone(kind="timm", name="vit_tiny_patch16_224", weights="none")
SWIN = TimmBackbone(kind="timm", name="swin_tiny_patch4_window7_224", weights="none")


def built(spec: BackboneSpec, size: int | None) -> Backbone:
    torch.manual_seed(0)
    return make_backbone(spec, image_size=size).eval()


@torch.no_grad()
def test_positions_of_a_vit_are_resampled_and_the_class_token_s_is_kept() -> None:
    official, small = built(VIT, None), built(VIT, 64)
    state = official.net.state_dict()

    matched = match_by_name(small, state)

    name = "encoder.pos_embedding"
    assert matched.notes == (f"{name} resampled from [1, 50, 768] to [1, 5, 768]",)
    old, new = state[name], matched.state[name]
    assert torch.equal(new[:, 0], old[:, 0])
    square = old[:, 1:].permute(0, 2, 1).reshape(1, 768, 7, 7)
    resized = F.interpolate(square, size=(2, 2), mode="bicubic", align_corners=True)
    assert torch.allclose(new[:, 1:], resized.flatten(2).permute(0, 2, 1), atol=1e-6)
    small.load(matched.state)
    assert small(torch.zeros(2, 3, 64, 64)).shape == (2, 768)


@pytest.mark.parametrize(("spec", "size"), [(SMALL_VIT, 96), (SWIN, 112)])
@torch.no_grad()
def test_timm_s_networks_take_their_weights_to_another_size(spec: BackboneSpec, size: int) -> None:
    official, other = built(spec, None), built(spec, size)

    matched = match_by_name(other, official.net.state_dict())
    other.load(matched.state)

    assert other(torch.zeros(1, 3, size, size)).shape == (1, other.feature_dim)
    same = match_by_name(built(spec, None), official.net.state_dict())
    assert same.notes == ()


@pytest.mark.parametrize(
    ("changes", "resampled", "left_out"),
    [
        ({"drop": ("layers.3.blocks.1",)}, "layers.3.blocks.0", ("layers.3.blocks.1",)),
        ({"cut_after": "block2"}, "layers.2.blocks.5", ("layers.3", "norm")),
    ],
)
def test_weights_for_another_size_load_without_what_is_removed(
    changes: dict[str, object], resampled: str, left_out: tuple[str, ...]
) -> None:
    official = built(SWIN, None)
    changed = built(SWIN.model_copy(update=changes), 64)

    matched = match_by_name(changed, official.net.state_dict())

    assert matched.state.keys() == changed.net.state_dict().keys()
    told = "; ".join(matched.notes)
    assert f"{resampled}.attn.relative_position_bias_table resampled from [169, " in told
    assert "up to date" not in told
    assert [note for note in matched.notes if "left out" in note] == [
        f"`{layer}` left out" for layer in left_out
    ]


@pytest.mark.parametrize(("spec", "size"), [(VIT, 50), (SMALL_VIT, 45)])
def test_a_size_that_a_network_cannot_be_built_for_is_refused(
    spec: BackboneSpec, size: int
) -> None:
    model = ModelSpec(backbone=spec, heads={"label": ClassificationHead(kind="classification")})

    with pytest.raises(ModelError) as caught:
        model_facts(model, num_classes=3, image_size=size)

    (problem,) = caught.value.problems
    assert problem.where == "data.image_size"
    assert f"{size} x {size} pixels" in problem.what


@torch.no_grad()
def test_convolutions_take_their_weights_as_they_are_at_any_size() -> None:
    spec = TorchvisionBackbone(kind="torchvision", name="resnet18", weights="none")

    matched = match_by_name(built(spec, 64), built(spec, None).net.state_dict())

    assert matched.notes == ()


def check(spec: BackboneSpec, size: int) -> None:
    model = ModelSpec(backbone=spec, heads={"label": ClassificationHead(kind="classification")})
    check_image_sizes(model, image_size=64, others={"phases.0.image_size": size})


@pytest.mark.parametrize("spec", [VIT, TIMM_VIT])
def test_a_phase_cannot_give_other_sizes_to_a_network_built_for_one(spec: BackboneSpec) -> None:
    with pytest.raises(ModelError) as caught:
        check(spec, 32)

    (problem,) = caught.value.problems
    assert problem.where == "phases.0.image_size"
    assert f"{spec.name} for images of 64 px cannot take images of 32 px" in problem.what


@pytest.mark.parametrize("name", ["mobilenet_v2", "swin_t"])
def test_a_phase_can_give_other_sizes_to_others(name: str) -> None:
    check(TorchvisionBackbone.model_validate({"kind": "torchvision", "name": name}), 32)
