"""What is cut off or left out is gone, and the rest of the network goes on without it."""

from typing import Any

import pytest
import torch

from rayft.errors import ModelError
from rayft.models.facts import model_facts
from rayft.spec.model import ModelSpec
from tests.unit.models.changing import IMAGES, map_after, timm, torchvision, with_weights_of


def refusal_of(name: str, **changes: Any) -> tuple[str, str]:
    """Return where the one problem of a changed network of torchvision is, and what it is."""
    with pytest.raises(ModelError) as caught:
        torchvision(name, **changes)
    (problem,) = caught.value.problems
    return problem.where, f"{problem.what}; {problem.fix}"


@torch.no_grad()
def test_strides_below_a_cut_are_set() -> None:
    changed = torchvision("vgg11", cut_after="block3", strides={"features": 1})

    assert changed(torch.zeros(1, 3, 32, 32)).shape == (1, 256)
    assert changed.net.get_submodule("features.2").stride == (1, 1)


@pytest.mark.parametrize(
    ("name", "cut_after", "layer", "elsewhere"),
    [
        ("vgg11", "block3", "features.0", "`features.2`"),
        ("googlenet", "inception3b", "inception3a", "`conv1.conv`"),
    ],
)
def test_strides_without_effect_name_layers_below_the_cut(
    name: str, cut_after: str, layer: str, elsewhere: str
) -> None:
    where, what = refusal_of(name, cut_after=cut_after, strides={layer: 1})

    assert where == "model.backbone.strides"
    assert f"nothing in `{layer}` has a stride of more than 1" in what
    assert elsewhere in what


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("convnext_atto", "block2"),
        ("mobilenetv3_small_050", "block4"),
        ("mobilenetv3_small_050", "block5"),
        ("densenet121", "block3"),
        ("repvgg_a0", "block2"),
    ],
)
@torch.no_grad()
def test_a_cut_of_a_network_of_timm_gives_the_mean_of_the_map_there(name: str, group: str) -> None:
    whole = timm(name)
    changed = with_weights_of(timm(name, cut_after=group), whole)

    found = changed(IMAGES)

    assert torch.allclose(found, map_after(whole, group).mean(dim=(2, 3)), atol=1e-6)
    assert changed.depth_groups == whole.depth_groups[: whole.depth_groups.index(group) + 1]
    assert changed.depth_groups[-1] == group


@pytest.mark.parametrize(
    ("name", "group", "width"),
    [
        ("swin_tiny_patch4_window7_224", "block2", 384),
        ("swin_tiny_patch4_window7_224", "block3", 768),
        ("beit_base_patch16_224", "block10", 768),
        ("beit_base_patch16_224", "block11", 768),
        ("vit_tiny_patch16_224", "block10", 192),
    ],
)
def test_networks_of_timm_that_attend_can_be_cut(name: str, group: str, width: int) -> None:
    with torch.device("meta"):
        changed = timm(name, cut_after=group)

    features = changed(torch.empty(2, 3, 224, 224, device="meta"))

    assert features.shape == (2, width)
    assert changed.feature_dim == width
    assert changed.depth_groups[-1] == group


@pytest.mark.parametrize(
    ("kind", "name", "layer", "what"),
    [
        ("torchvision", "densenet121", "features.denseblock4.denselayer16", "does not run"),
        ("torchvision", "vit_b_32", "encoder.layers.encoder_layer_11.self_attention", "not run"),
        ("torchvision", "vit_b_32", "encoder", "no known division into depth groups"),
        ("torchvision", "mobilenet_v2", "features", "no known division into depth groups"),
        ("torchvision", "resnet18", "avgpool", "gives [1, 25088] for one image"),
        ("timm", "test_vit", "blocks.5.attn", "does not run"),
        ("timm", "densenet121", "features.norm5", "nothing is left of the depth group `head`"),
    ],
)
def test_layers_that_the_network_cannot_be_without_are_refused(
    kind: str, name: str, layer: str, what: str
) -> None:
    model = {
        "backbone": {"kind": kind, "name": name, "weights": "none", "drop": [layer]},
        "heads": {"label": {"kind": "classification"}},
    }

    with pytest.raises(ModelError) as caught:
        model_facts(ModelSpec.model_validate(model), num_classes=2, image_size="auto")

    (problem,) = caught.value.problems
    assert problem.where == "model.backbone.drop"
    assert f"without {layer} " in problem.what
    assert what in problem.what


@pytest.mark.parametrize("layers", [["layer4"], ["layer4.0", "layer4.1"]])
def test_a_whole_group_is_cut_off_not_left_out(layers: list[str]) -> None:
    where, what = refusal_of("resnet18", drop=layers)

    assert where == "model.backbone.drop"
    assert "nothing is left of the depth group `layer4`" in what
    assert "set cut_after to `layer3`" in what


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"drop": ["fc"]}, "nothing to leave out in `fc`; remove it"),
        ({"drop": ["layer4.1", "layer4.1.conv1"]}, "nothing to leave out in `layer4.1.conv1`"),
        ({"drop": ["layer4.1.conv1", "layer4.1"]}, "nothing to leave out in `layer4.1.conv1`"),
        ({"drop": ["layer4.1", "layer4.1"]}, "nothing to leave out in `layer4.1`"),
        ({"drop": ["layer4"], "cut_after": "layer3"}, "nothing to leave out in `layer4`"),
        (
            {"drop": ["layer4.1"], "cut_after": "layer3"},
            "no layer `layer4.1` up to `layer3`, after which it is cut",
        ),
    ],
)
def test_what_is_not_there_cannot_be_left_out(changes: dict[str, Any], what: str) -> None:
    where, found = refusal_of("resnet18", **changes)

    assert where == "model.backbone.drop"
    assert what in found


def test_a_group_in_the_middle_is_no_reason_to_cut() -> None:
    _, what = refusal_of("resnet18", drop=["layer3"])

    assert "nothing is left of the depth group `layer3`" in what
    assert "cut_after" not in what


def test_a_drop_that_fits_only_where_a_map_is_one_pixel_is_refused() -> None:
    layers = ["layer4.0.conv2"]
    model = {
        "backbone": {"kind": "torchvision", "name": "resnet50", "weights": "none", "drop": layers},
        "heads": {"label": {"kind": "classification"}},
    }

    with pytest.raises(ModelError) as caught:
        model_facts(ModelSpec.model_validate(model), num_classes=2, image_size=32)

    (problem,) = caught.value.problems
    assert problem.where == "model.backbone.drop"
    assert "different sizes" in problem.what


@torch.no_grad()
def test_a_layer_below_the_cut_can_be_left_out() -> None:
    whole = torchvision("resnet18", cut_after="layer3")
    changed = with_weights_of(torchvision("resnet18", cut_after="layer3", drop=["layer3.1"]), whole)

    block: Any = whole.net.get_submodule("layer3")[0]  # type: ignore[index]
    expected = block(map_after(whole, "layer2")).mean(dim=(2, 3))
    assert torch.allclose(changed(IMAGES), expected, atol=1e-6)
