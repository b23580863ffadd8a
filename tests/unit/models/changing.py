"""Networks whose structure is changed, and what they make of a few images."""

from typing import Any

import torch
from torch import Tensor

from rayft.models.backbone import Backbone, make_backbone
from rayft.models.matching import match_by_name
from rayft.spec.model import TimmBackbone, TorchvisionBackbone

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def torchvision(name: str, **changes: Any) -> Backbone:
    torch.manual_seed(0)
    spec = {"kind": "torchvision", "name": name, "weights": "none", **changes}
    return make_backbone(TorchvisionBackbone.model_validate(spec)).eval()


def timm(name: str, **changes: Any) -> Backbone:
    torch.manual_seed(0)
    spec = {"kind": "timm", "name": name, "weights": "none", **changes}
    return make_backbone(TimmBackbone.model_validate(spec)).eval()


def with_weights_of(changed: Backbone, official: Backbone) -> Backbone:
    """Load the official tensors into a changed network, as a file of weights is."""
    matched = match_by_name(changed, official.net.state_dict())
    changed.load(matched.state)
    return changed


def map_after(backbone: Backbone, group: str) -> Tensor:
    assert backbone.stages is not None
    images = IMAGES
    for stage in backbone.stages:
        images = stage.forward(images)
        if stage.name == group:
            return images
    raise AssertionError(group)
