"""Facts about a model, without a model."""

import time

import pytest

from rayft.errors import ModelError
from rayft.models.facts import model_facts
from rayft.models.model import make_model
from rayft.plan.facts import ModelFacts
from rayft.spec.model import (
    BackboneSpec,
    ClassificationHead,
    FileWeights,
    ModelSpec,
    TimmBackbone,
    TorchvisionBackbone,
    WeightsSpec,
)

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def torchvision(name: str, weights: WeightsSpec = "DEFAULT") -> TorchvisionBackbone:
    return TorchvisionBackbone(kind="torchvision", name=name, weights=weights)


def spec_of(backbone: BackboneSpec, hidden: tuple[int, ...] = ()) -> ModelSpec:
    head = ClassificationHead(kind="classification", hidden=hidden)
    return ModelSpec(backbone=backbone, heads={"label": head})


def facts_of(backbone: BackboneSpec) -> ModelFacts:
    return model_facts(spec_of(backbone), num_classes=10, image_size="auto")


def test_facts_of_resnet50_come_fast_and_agree_with_the_literature() -> None:
    # Of the processor: wall time depends on the load.
    start = time.process_time()
    facts = facts_of(torchvision("resnet50"))
    took_s = time.process_time() - start

    assert took_s < 1.5
    assert facts.backbone == "torchvision/resnet50"
    assert facts.weights == "torchvision resnet50 IMAGENET1K_V2"
    assert facts.pretrained
    assert (facts.image_size, facts.feature_dim) == (224, 2048)
    assert (facts.mean, facts.std) == IMAGENET
    # torchvision's own table: 25.56 M parameters and 4.09 G multiply-adds, with its classifier.
    sizes = sum(param.size for group in facts.groups for param in group.params)
    assert sizes == 25_557_032 - 2048 * 1000 - 1000
    assert sum(group.flops_per_row for group in facts.groups) == pytest.approx(4.09e9, rel=0.01)
    (head,) = facts.heads
    assert (head.name, head.flops_per_row) == ("label", 20480)


@pytest.mark.parametrize(
    ("backbone", "size", "maps"),
    [
        (torchvision("resnet18"), 224, [56, 56, 28, 14, 7]),
        (torchvision("resnet18"), 32, [8, 8, 4, 2, 1]),
        (torchvision("resnet18").model_copy(update={"strides": {"layer4": 1}}), 224, [14]),
        (torchvision("mobilenet_v3_small"), 224, [112, 56, 28, 28, 14, 14, 14, 14, 14, 7, 7, 7, 7]),
        (torchvision("convnext_tiny"), 224, [56, 56, 28, 14, 7]),
        (torchvision("swin_t"), 224, [56, 56, 28, 14, 7]),
        (torchvision("maxvit_t"), 224, [112, 56, 28, 14, 7]),
        (torchvision("densenet121"), 224, [56, 28, 14, 7, 7]),
        (torchvision("vit_b_16"), 224, [14]),
        (TimmBackbone(kind="timm", name="tf_efficientnet_lite0"), 64, [32, 32, 16, 8, 4, 4, 2, 2]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_maps_are_those_of_each_group_before_pooling(
    backbone: BackboneSpec, size: int, maps: list[int]
) -> None:
    facts = model_facts(spec_of(backbone), num_classes=10, image_size=size)

    assert list(facts.maps.values())[-len(maps) :] == maps


def test_parameters_are_those_of_the_model_in_their_order() -> None:
    spec = spec_of(torchvision("resnet18", "none"), hidden=(7,))
    facts = model_facts(spec, num_classes=3, image_size=64)
    model = make_model(spec, num_classes=3, seed=0)

    found = [(p.name, p.size) for g in (*facts.groups, *facts.heads) for p in g.params]
    assert found == [(name, param.numel()) for name, param in model.named_parameters()]
    kinds = {param.name: param.kind for g in (*facts.groups, *facts.heads) for param in g.params}
    assert kinds["backbone.net.conv1.weight"] == "weight"
    assert kinds["backbone.net.bn1.weight"] == kinds["backbone.net.bn1.bias"] == "norm"
    assert kinds["heads.label.output.bias"] == kinds["heads.label.hidden.0.bias"] == "bias"
    assert facts.weights == "none: random"
    assert not facts.pretrained


def test_activations_count_what_a_conv_and_its_norm_leave() -> None:
    facts = model_facts(spec_of(torchvision("resnet18")), num_classes=2, image_size=64)

    # stem: conv and batch norm [64, 32, 32], in-place ReLU nothing, max pool [64, 16, 16]
    assert facts.groups[0].activation_bytes_per_row == 4 * (2 * 64 * 32 * 32 + 64 * 16 * 16)
    assert facts.heads[0].activation_bytes_per_row == 4 * 2


@pytest.mark.parametrize(("name", "multiply_adds"), [("vit_b_32", 4.41e9), ("swin_t", 4.49e9)])
def test_attention_is_counted_where_one_function_does_it(name: str, multiply_adds: float) -> None:
    facts = facts_of(torchvision(name))

    # torchvision's own table counts the products inside attention as well.
    found = sum(group.flops_per_row for group in facts.groups)
    assert 0.93 * multiply_adds < found < multiply_adds


def test_a_fused_norm_of_timm_is_a_norm_and_is_counted() -> None:
    backbone = TimmBackbone(kind="timm", name="tf_efficientnet_lite0", weights="DEFAULT")
    facts = facts_of(backbone)

    assert (facts.mean, facts.std) == ((0.5,) * 3, (0.5,) * 3)
    assert facts.weights == "timm tf_efficientnet_lite0 in1k"
    stem = facts.groups[0]
    assert {p.name.rpartition(".net.")[2]: p.kind for p in stem.params} == {
        "conv_stem.weight": "weight",
        "bn1.weight": "norm",
        "bn1.bias": "norm",
    }
    assert stem.activation_bytes_per_row == 4 * 2 * 32 * 112 * 112


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        (torchvision("efficientnet_v2_s", FileWeights(file="w.pth")), 384),
        (torchvision("efficientnet_b1", "IMAGENET1K_V1"), 240),
        (torchvision("inception_v3"), 299),
        (torchvision("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"), 384),
        (torchvision("vit_h_14", "none"), 518),
        (TimmBackbone(kind="timm", name="vit_tiny_patch16_224", weights="none"), 224),
        (TimmBackbone(kind="timm", name="resnet18", weights="tv_in1k"), 224),
        (TimmBackbone(kind="timm", name="nfnet_f0", weights="none"), 192),
    ],
)
def test_auto_is_the_size_of_the_weights(backbone: BackboneSpec, size: int) -> None:
    assert facts_of(backbone).image_size == size


@pytest.mark.parametrize(("name", "size"), [("convnext_atto", 31), ("vgg11", 16)])
def test_a_size_that_the_network_cannot_take_is_refused(name: str, size: int) -> None:
    spec = spec_of(TimmBackbone(kind="timm", name=name, weights="none"))

    with pytest.raises(ModelError) as caught:
        model_facts(spec, num_classes=2, image_size=size)

    (problem,) = caught.value.problems
    assert problem.where == "data.image_size"
    assert f"{size} x {size}" in problem.what
    assert problem.fix.startswith("set data.image_size to 224")


def test_a_misspelt_name_of_weights_is_refused() -> None:
    with pytest.raises(ModelError, match="`IMAGENET1K_V2`"):
        facts_of(torchvision("resnet50", "IMAGENET_V2"))
