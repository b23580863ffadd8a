"""What is cut off or left out is gone, and the rest of the network goes on without it."""

from typing import Any

import pytest
import torch

from rayft.errors import ModelError
from tests.unit.models.changing import torchvision


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
