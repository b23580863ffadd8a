"""Cut, pooled otherwise, with layers left out or put in: what changes, and what stays."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rayft.errors import ModelError
from rayft.models.backbone import Backbone
from rayft.models.facts import model_facts
from rayft.models.matching import match_by_name
from rayft.spec.model import ModelSpec
from tests.unit.models.changing import IMAGES, map_after, timm, torchvision, with_weights_of

CUTS = [
    ("resnet18", "layer2", 128),
    ("vgg11", "block5", 512),
    ("squeezenet1_1", "fire3", 256),
    ("densenet121", "block2", 256),
    ("mobilenet_v2", "block10", 64),
    ("swin_t", "stage2", 192),
    ("vit_b_32", "block3", 768),
]


@pytest.mark.parametrize(("name", "group", "width"), CUTS)
@torch.no_grad()
def test_a_cut_gives_the_mean_of_the_map_there(name: str, group: str, width: int) -> None:
    size = {"image_size": 224} if name.startswith("vit") else {}
    images = torch.randn(2, 3, 224, 224) if size else IMAGES
    whole = torchvision(name)
    changed = with_weights_of(torchvision(name, cut_after=group), whole)

    found = changed(images)

    kept = images
    for stage in whole.stages or ():
        kept = stage.forward(kept)
        if stage.name == group:
            break
    if name.startswith("vgg"):
        kept = kept.unflatten(1, (512, 7, 7))
    channels_last = kept.ndim == 3 or name.startswith("swin")
    places = tuple(range(1, kept.ndim - 1)) if channels_last else tuple(range(2, kept.ndim))
    assert torch.allclose(found, kept.mean(dim=places), atol=1e-6)
    assert found.shape == (2, width)
    assert changed.feature_dim == width
    assert changed.depth_groups == whole.depth_groups[: whole.depth_groups.index(group) + 1]
    above = sum(p.numel() for p in whole.parameters()) - sum(
        p.numel() for p in changed.parameters()
    )
    assert above > 0


@torch.no_grad()
def test_what_is_cut_off_takes_no_memory_and_is_told_where_weights_are_loaded() -> None:
    whole = torchvision("resnet18")
    changed = torchvision("resnet18", cut_after="layer3")

    matched = match_by_name(changed, whole.net.state_dict())

    assert not [name for name in changed.net.state_dict() if name.startswith("layer4")]
    assert "`layer4` left out" in matched.notes


@pytest.mark.parametrize("kind", ["avg", "max", "avg_max"])
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "shufflenet_v2_x0_5"])
@torch.no_grad()
def test_another_pooling_takes_the_place_of_the_network_s_own(name: str, kind: str) -> None:
    own = torchvision(name)
    changed = with_weights_of(torchvision(name, pool=kind), own)

    found = changed(IMAGES)

    expected = own(IMAGES)
    if kind == "avg":
        assert torch.allclose(found, expected, atol=1e-5)
    else:
        assert found.sum() > 1.1 * expected.sum()
        assert (found >= expected - 1e-5).all()
    assert found.shape == expected.shape


@torch.no_grad()
def test_a_cut_may_be_pooled_by_the_maximum() -> None:
    whole = torchvision("resnet18")
    changed = with_weights_of(torchvision("resnet18", cut_after="layer2", pool="max"), whole)

    assert torch.equal(changed(IMAGES), map_after(whole, "layer2").amax(dim=(2, 3)))


@pytest.mark.parametrize(
    ("name", "group", "layer"),
    [
        ("mobilenet_v3_small", "conv", "features.12"),
        ("vgg11", "block5", "avgpool"),
        ("maxvit_t", "block4", "blocks.3"),
    ],
)
@torch.no_grad()
def test_a_map_that_the_network_pools_before_its_last_layers_is_pooled_as_asked(
    name: str, group: str, layer: str
) -> None:
    images = torch.randn(1, 3, 224, 224) if name == "maxvit_t" else IMAGES
    for pool in ("own", "max"):
        changed = torchvision(name, cut_after=group, pool=pool)
        seen: list[Tensor] = []
        hooked = changed.net.get_submodule(layer)
        hooked.register_forward_hook(lambda _m, _i, made, seen=seen: seen.append(made))

        found = changed(images)

        (made,) = seen
        assert torch.equal(found, made.amax((2, 3)) if pool == "max" else made.mean((2, 3)))
        assert not torch.equal(made.amax((2, 3)), made.mean((2, 3)))


@torch.no_grad()
def test_a_layer_that_is_left_out_passes_its_input_on() -> None:
    whole = torchvision("resnet18")
    changed = with_weights_of(torchvision("resnet18", drop=["layer4.1"]), whole)

    found = changed(IMAGES)

    block: Any = whole.net.get_submodule("layer4")[0]  # type: ignore[index]
    expected = block(map_after(whole, "layer3")).mean(dim=(2, 3))
    assert torch.allclose(found, expected, atol=1e-6)
    assert not [name for name in changed.net.state_dict() if name.startswith("layer4.1.")]


@pytest.mark.parametrize(
    ("make", "name", "after"),
    [
        (torchvision, "resnet18", "layer2"),
        (torchvision, "swin_t", "stage2"),
        (timm, "test_efficientnet", "block1"),
        (timm, "test_vit", "block2"),
    ],
)
@torch.no_grad()
def test_an_adapter_is_a_group_of_its_own_and_starts_as_the_identity(
    make: Any, name: str, after: str
) -> None:
    images = torch.randn(2, 3, 160, 160) if name == "test_vit" else IMAGES
    whole = make(name)
    adapter = {"kind": "adapter", "after": after, "width": 5}
    changed = with_weights_of(make(name, insert=[adapter]), whole)

    assert torch.equal(changed(images), whole(images))
    group = f"{after}_adapter"
    place = changed.depth_groups.index(group)
    assert changed.depth_groups[place - 1] == after
    names = [name for name in changed.net.state_dict() if changed.group_of(name) == group]
    assert len(names) == 4
    up: Any = changed.net.get_submodule(group).up  # type: ignore[union-attr]
    up.bias.fill_(1.0)
    assert not torch.allclose(changed(images), whole(images))


def test_a_dropout_works_in_training_and_belongs_to_the_group_before_it() -> None:
    dropout = {"kind": "dropout", "after": "layer3", "probability": 0.5}
    changed = torchvision("resnet18", insert=[dropout])

    found = [m for m in changed.net.modules() if isinstance(m, nn.Dropout2d)]
    assert len(found) == 1
    assert changed.layout.group_of["layer3_dropout"] == "layer3"
    before = changed(IMAGES)
    assert torch.equal(changed(IMAGES), before)
    found[0].train()
    assert not torch.equal(changed(IMAGES), before)


def test_stochastic_depth_rises_from_the_first_block_to_the_last() -> None:
    from torchvision.ops import StochasticDepth

    changed = torchvision("efficientnet_b0", stochastic_depth=0.4)

    rates = [m.p for m in changed.net.modules() if isinstance(m, StochasticDepth)]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.4)
    assert rates == sorted(rates)
    from timm.layers import DropPath

    other = timm("test_convnext", stochastic_depth=0.3)
    paths = [m.drop_prob for m in other.net.modules() if isinstance(m, DropPath)]
    assert max(paths) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("make", "name", "changes"),
    [
        (torchvision, "efficientnet_b0", {"cut_after": "stage4"}),
        (torchvision, "convnext_tiny", {"drop": ["features.7.2"]}),
        (timm, "test_convnext", {"cut_after": "block2"}),
    ],
)
def test_stochastic_depth_rises_to_the_last_block_that_is_kept(
    make: Any, name: str, changes: dict[str, Any]
) -> None:
    with torch.device("meta"):
        changed = chances_of(make(name, stochastic_depth=0.2, **changes))
        usual = chances_of(make(name, stochastic_depth=0.2))

    assert changed[-1] == pytest.approx(usual[-1])
    assert usual[-1] >= 0.18
    assert changed == sorted(changed)


def chances_of(backbone: Backbone) -> list[float]:
    return [
        getattr(module, "p", getattr(module, "drop_prob", None))
        for module in backbone.net.modules()
        if type(module).__name__ in {"StochasticDepth", "DropPath"}
    ]


def test_without_a_block_in_the_middle_the_others_are_skipped_as_before() -> None:
    with torch.device("meta"):
        usual = chances_of(torchvision("efficientnet_b0", stochastic_depth=0.2))
        less = torchvision("efficientnet_b0", stochastic_depth=0.2, drop=["features.3.1"])

    kept = chances_of(less)
    assert len(kept) == len(usual) - 1
    assert set(kept) < set(usual)


def test_stochastic_depth_of_one_block_that_is_never_skipped_is_refused() -> None:
    with pytest.raises(ModelError, match="no block of what is kept can be skipped"):
        torchvision("efficientnet_b0", cut_after="stage1", stochastic_depth=0.2)


def test_a_dropout_of_maps_with_channels_last_drops_whole_channels() -> None:
    dropout = {"kind": "dropout", "after": "stage2", "probability": 0.5}
    changed = torchvision("swin_t", insert=[dropout])
    layer = changed.net.get_submodule("stage2_dropout").train()

    made = layer(torch.ones(4, 3, 5, 192))

    assert made.shape == (4, 3, 5, 192)
    assert torch.equal(made, made[:, :1, :1].expand_as(made))
    assert set(made.unique().tolist()) == {0.0, 2.0}


MAPS = [
    (torchvision, "resnet18", {"layer4": 1}, {"layer3": 4, "layer4": 4}),
    (torchvision, "resnet18", {"conv1": 1, "maxpool": 1}, {"layer1": 64, "layer4": 8}),
    (torchvision, "mobilenet_v2", {"features.4": 1}, {"features.3": 16, "features.4": 16}),
    (torchvision, "efficientnet_b0", {"features.6": 1}, {"features.5": 4, "features.6": 4}),
    (torchvision, "vgg11", {"features.2": 1}, {"features.2": 63}),
    (torchvision, "shufflenet_v2_x0_5", {"stage4": 1}, {"stage3": 4, "stage4": 4}),
    (torchvision, "convnext_tiny", {"features.0": 2}, {"features.0": 31}),
    (timm, "test_efficientnet", {"blocks.3": 1}, {"blocks.2": 8, "blocks.3": 8}),
]


@pytest.mark.parametrize(("make", "name", "strides", "sizes"), MAPS)
@torch.no_grad()
def test_smaller_strides_keep_maps_larger_with_the_same_weights(
    make: Any, name: str, strides: dict[str, int], sizes: dict[str, int]
) -> None:
    whole = make(name)
    changed = with_weights_of(make(name, strides=strides), whole)
    found: dict[str, int] = {}
    for layer in sizes:
        module = changed.net.get_submodule(layer)
        module.register_forward_hook(
            lambda _m, _i, made, at=layer: found.update({at: made.shape[2]})
        )

    before, after = whole(IMAGES), changed(IMAGES)

    assert found == sizes
    assert after.shape == before.shape
    assert (after - before).abs().max() > 1e-3 * before.abs().max()
    assert list(changed.net.state_dict()) == list(whole.net.state_dict())
    assert changed.depth_groups == whole.depth_groups


def test_a_layer_without_a_stride_names_those_that_have_one() -> None:
    with pytest.raises(ModelError, match=r"write `features\.4\.conv\.1\.0`"):
        torchvision("mobilenet_v2", strides={"features.4.conv.0": 1})


def test_strides_that_leave_layers_unlike_each_other_are_refused_beforehand() -> None:
    model = ModelSpec.model_validate(
        {
            "backbone": {
                "kind": "torchvision",
                "name": "resnet18",
                "weights": "none",
                "strides": {"layer4.0.conv1": 1},
            },
            "heads": {"label": {"kind": "classification"}},
        }
    )

    with pytest.raises(ModelError, match="undo what no longer fits of drop and strides"):
        model_facts(model, num_classes=2, image_size=64)


def test_strides_that_fit_at_one_pixel_only_are_refused() -> None:
    # The shortcut makes a map of one pixel of a 32 px image, and the other way one of four.
    backbone = {"kind": "torchvision", "name": "resnet18", "strides": {"layer4.0.conv1": 1}}
    heads = {"label": {"kind": "classification"}}
    model = ModelSpec.model_validate({"backbone": backbone, "heads": heads})

    with pytest.raises(ModelError) as caught:
        model_facts(model, num_classes=2, image_size=32)

    (problem,) = caught.value.problems
    assert problem.where == "model.backbone.strides"
    assert "maps that belong together are of different sizes" in problem.what


@pytest.mark.parametrize("strides", [{"layer4": 1}, {"conv1": 1, "maxpool": 1}])
def test_strides_of_whole_groups_fit_small_images(strides: dict[str, int]) -> None:
    backbone = {"kind": "torchvision", "name": "resnet18", "strides": strides}
    heads = {"label": {"kind": "classification"}}
    model = ModelSpec.model_validate({"backbone": backbone, "heads": heads})

    assert model_facts(model, num_classes=2, image_size=32).feature_dim == 512


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"strides": {"layer9": 1}}, "strides", "no layer `layer9`"),
        ({"strides": {"layer1": 1}}, "strides", "nothing in `layer1` has a stride of more than 1"),
        ({"strides": {"layer4": 2}}, "strides", "nothing in `layer4` has a stride of more than 2"),
        (
            {"strides": {"layer4": 1}, "cut_after": "layer3"},
            "strides",
            "nothing in `layer4` has a stride of more than 1",
        ),
        ({"cut_after": "layer9"}, "cut_after", "no depth group `layer9`"),
        ({"cut_after": "layer4"}, "cut_after", "is the last depth group"),
        ({"drop": ["layer4.7"]}, "drop", "no layer `layer4.7`"),
        (
            {"insert": [{"kind": "adapter", "after": "layer5", "width": 8}]},
            "insert.0.after",
            "no depth group `layer5`",
        ),
        (
            {
                "cut_after": "layer2",
                "insert": [{"kind": "adapter", "after": "layer3", "width": 8}],
            },
            "insert.0.after",
            "no depth group `layer3`",
        ),
        (
            {"insert": [{"kind": "dropout", "after": "layer4", "probability": 0.1}]},
            "insert",
            "what follows it are the heads",
        ),
        ({"stochastic_depth": 0.2}, "stochastic_depth", "no stochastic depth"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(ModelError) as caught:
        torchvision("resnet18", **changes)

    (problem,) = caught.value.problems
    assert problem.where == f"model.backbone.{where}"
    assert what in problem.what


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "test_resnet"])
@torch.no_grad()
def test_timm_s_networks_pool_as_they_are_told(name: str) -> None:
    own = timm(name)
    most = with_weights_of(timm(name, pool="max"), own)
    both = with_weights_of(timm(name, pool="avg_max"), own)

    found = most(IMAGES)

    assert found.shape == own(IMAGES).shape
    assert not torch.allclose(found, own(IMAGES))
    if name != "test_convnext":  # It normalises after pooling.
        assert torch.allclose(both(IMAGES), (found + own(IMAGES)) / 2, atol=1e-6)


@pytest.mark.parametrize("kind", ["avg", "max", "avg_max"])
@torch.no_grad()
def test_timm_s_swin_pools_its_channels_last(kind: str) -> None:
    images = torch.randn(1, 3, 224, 224)
    changed = timm("swin_tiny_patch4_window7_224", pool=kind)
    seen: list[Tensor] = []
    changed.net.get_submodule("norm").register_forward_hook(lambda _m, _i, made: seen.append(made))

    found = changed(images)

    (made,) = seen
    mean, most = made.mean((1, 2)), made.amax((1, 2))
    assert found.shape == (1, 768)
    expected = {"avg": mean, "max": most, "avg_max": (mean + most) / 2}[kind]
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["vgg11"])
def test_stochastic_depth_that_would_change_nothing_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="no stochastic depth"):
        timm(name, stochastic_depth=0.2)


def test_tokens_of_timm_s_vit_have_no_pooling_to_change() -> None:
    with pytest.raises(ModelError, match="does not end in one pooling"):
        timm("test_vit", pool="max")


def test_fully_connected_features_have_no_pooling_to_change() -> None:
    with pytest.raises(ModelError, match="does not end in one pooling"):
        torchvision("vgg11", pool="max")


def test_a_network_that_is_no_chain_keeps_its_structure() -> None:
    with pytest.raises(ModelError, match="not known to be a plain chain"):
        timm("coat_tiny", cut_after="stem")
