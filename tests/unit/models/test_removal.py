"""What is cut off or left out is gone, and the rest of the network goes on without it."""

from typing import Any

import pytest
import torch

from rayft.errors import ModelError
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
