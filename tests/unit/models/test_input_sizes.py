"""Images of a size that a network cannot take are refused by the plan, not by the first step."""

import pytest
import torch

from rayft.errors import ModelError
from rayft.models.backbone import make_backbone
from rayft.models.facts import model_facts
from rayft.spec.model import ClassificationHead, ModelSpec, TimmBackbone, TorchvisionBackbone
from tests.unit.models.families import MEMBERS, Member, random_images

REFUSALS = (ModelError, RuntimeError, AssertionError, ValueError)
SIZES = (1, 8, 31, 48, 75)


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_what_the_plan_accepts_can_be_trained_and_the_rest_is_refused(member: Member) -> None:
    accepted = [size for size in SIZES if accepts(member, size)]

    for size in accepted:
        features = make_backbone(member.spec, image_size=size).train()(random_images(2, size))
        features.sum().backward()
        assert torch.isfinite(features).all()
    for size in set(SIZES) - set(accepted):
        with torch.no_grad(), pytest.raises(REFUSALS):
            make_backbone(member.spec, image_size=size).eval()(random_images(1, size))
    assert accepts(member, member.size)


def accepts(member: Member, size: int) -> bool:
    head = ClassificationHead(kind="classification")
    spec = ModelSpec(backbone=member.spec, heads={"label": head})
    try:
        model_facts(spec, num_classes=2, image_size=size)
    except ModelError as error:
        (problem,) = error.problems
        assert problem.where == "data.image_size"
        assert f"{size} x {size} pixels" in problem.what
        return False
    return True


@pytest.mark.parametrize(
    ("name", "size", "usual"),
    [
        ("maxvit_t", 192, 224),
        ("maxvit_t", 448, 224),
        ("inception_v3", 74, 299),
        ("alexnet", 62, 224),
        ("vgg16", 31, 224),
        ("densenet121", 28, 224),
        ("convnext_tiny", 31, 224),
        ("squeezenet1_0", 20, 224),
    ],
)
def test_the_smallest_sizes_of_torchvision_are_known(name: str, size: int, usual: int) -> None:
    backbone = TorchvisionBackbone(kind="torchvision", name=name, weights="none")

    message = refusal(backbone, size)

    assert f"the backbone cannot take images of {size} x {size} pixels" in message
    assert f"set data.image_size to {usual}" in message


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_tiny_patch16_224", 15),
        ("swin_tiny_patch4_window7_224", 3),
        ("beit_base_patch16_224", 15),
        ("mixer_s32_224", 31),
        ("efficientformer_l1", 96),
    ],
)
def test_networks_of_timm_refuse_images_smaller_than_a_patch(name: str, size: int) -> None:
    backbone = TimmBackbone(kind="timm", name=name, weights="none")

    assert f"images of {size} x {size} pixels" in refusal(backbone, size)


def test_vit_refuses_what_its_patches_do_not_fill() -> None:
    backbone = TorchvisionBackbone(kind="torchvision", name="vit_b_16", weights="none")

    assert "images of 100 x 100 pixels" in refusal(backbone, 100)


@pytest.mark.parametrize(
    ("name", "size", "patch"),
    [
        ("vit_tiny_patch16_224", 230, 16),
        ("vit_tiny_patch16_224", 45, 16),
        ("mixer_s32_224", 230, 32),
        ("beit_base_patch16_224", 230, 16),
        ("swin_tiny_patch4_window7_224", 226, 4),
    ],
)
def test_networks_of_timm_refuse_what_their_patches_do_not_fill(
    name: str, size: int, patch: int
) -> None:
    message = refusal(TimmBackbone(kind="timm", name=name, weights="none"), size)

    assert f"images of {size} x {size} pixels" in message
    assert f"patches of {patch} x {patch} pixels do not divide them" in message


@pytest.mark.parametrize(
    ("name", "size", "changes"),
    [
        ("alexnet", 32, {"strides": {"features.0": 1}}),
        ("inception_v3", 64, {"cut_after": "Mixed_6e"}),
        ("vgg11", 16, {"cut_after": "block2", "pool": "max"}),
    ],
)
def test_a_changed_network_takes_images_that_it_was_too_large_for(
    name: str, size: int, changes: dict[str, object]
) -> None:
    spec = TorchvisionBackbone.model_validate({"kind": "torchvision", "name": name, **changes})
    head = ClassificationHead(kind="classification")
    model = ModelSpec(backbone=spec, heads={"label": head})

    facts = model_facts(model, num_classes=2, image_size=size)

    features = make_backbone(spec, image_size=size).eval()(random_images(1, size))
    assert features.shape == (1, facts.feature_dim)


@pytest.mark.parametrize(
    "changes",
    [
        {"cut_after": "block4"},
        {"strides": {"features.2": 1}},
        {"drop": ["features.8"]},
        {"insert": [{"kind": "adapter", "after": "block4", "width": 8}]},
    ],
)
def test_a_changed_network_refuses_images_that_are_too_small(changes: dict[str, object]) -> None:
    spec = {"kind": "torchvision", "name": "vgg11", **changes}

    message = refusal(TorchvisionBackbone.model_validate(spec), 8)

    assert "data.image_size: the backbone cannot take images of 8 x 8 pixels" in message
    assert ("undo what no longer fits" in message) == ("drop" in changes or "strides" in changes)


def refusal(backbone: TorchvisionBackbone | TimmBackbone, size: int) -> str:
    head = ClassificationHead(kind="classification")
    spec = ModelSpec(backbone=backbone, heads={"label": head})
    with pytest.raises(ModelError) as caught:
        model_facts(spec, num_classes=2, image_size=size)
    return str(caught.value)
