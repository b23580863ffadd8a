"""Images of a size that a network cannot take are refused by the plan, not by the first step."""

import pytest
import torch

from rayft.errors import ModelError
from rayft.models.backbone import make_backbone
from rayft.models.facts import model_facts
from rayft.spec.model import ClassificationHead, ModelSpec, TimmBackbone, TorchvisionBackbone
from tests.unit.models.families import MEMBERS, Member, random_images

SIZES = (1, 8, 31, 48, 75, 97)


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_what_the_plan_accepts_can_be_trained_and_the_rest_is_refused(member: Member) -> None:
    accepted = [size for size in SIZES if accepts(member, size)]
    backbone = make_backbone(member.spec).train()

    for size in accepted:
        features = backbone(random_images(2, size))
        features.sum().backward()
        assert torch.isfinite(features).all()
    for size in set(SIZES) - set(accepted):
        with torch.no_grad(), pytest.raises((RuntimeError, AssertionError, ValueError)):
            backbone.eval()(random_images(1, size))
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
        assert problem.fix.startswith("set data.image_size to ")
        return False
    return True


@pytest.mark.parametrize(
    ("name", "size", "usual"),
    [
        ("vit_b_16", 96, 224),
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
        ("vit_tiny_patch16_224", 96),
        ("swin_tiny_patch4_window7_224", 192),
        ("beit_base_patch16_224", 96),
        ("mixer_s32_224", 96),
        ("efficientformer_l1", 96),
    ],
)
def test_networks_of_timm_for_one_size_refuse_others(name: str, size: int) -> None:
    backbone = TimmBackbone(kind="timm", name=name, weights="none")

    assert "set data.image_size to 224" in refusal(backbone, size)


def refusal(backbone: TorchvisionBackbone | TimmBackbone, size: int) -> str:
    head = ClassificationHead(kind="classification")
    spec = ModelSpec(backbone=backbone, heads={"label": head})
    with pytest.raises(ModelError) as caught:
        model_facts(spec, num_classes=2, image_size=size)
    return str(caught.value)
