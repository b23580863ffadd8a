"""The model that is fine-tuned: a backbone, and a head for each label column."""

from typing import final

import torch
from torch import Tensor, nn

from rayft.errors import ModelError, Problem
from rayft.models.backbone import Backbone, make_backbone
from rayft.models.heads import make_head
from rayft.spec.data import RGB
from rayft.spec.model import ModelSpec


@final
class FineTuneModel(nn.Module):
    """A backbone and heads on its features.

    Parameters are called `backbone.net.<official name>` and `heads.<label column>.<name>`.
    """

    def __init__(self, backbone: Backbone, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads

    def forward(self, images: Tensor, cut: int = 0) -> dict[str, Tensor]:
        """Return scores [B, C] by label column.

        Args:
            images: [B, C, H, W], float, normalised; or what the lowest `cut` groups made of them.
            cut: depth groups of the backbone that are done already.
        """
        features = self.backbone(images, cut)
        return {label: head(features) for label, head in self.heads.items()}


def make_model(
    spec: ModelSpec,
    *,
    num_classes: int,
    seed: int,
    image_size: int | None = None,
    channels: int = RGB,
) -> FineTuneModel:
    """Build backbone and heads with random weights that follow from `seed` alone.

    The global generator is neither read nor moved. Only the CPU's generator is used, so the
    weights do not depend on the accelerator: build here, then move.

    Args:
        spec: the `model:` section; its weights are not loaded.
        num_classes: C, at least 1.
        seed: any integer that torch takes as a seed.
        image_size: as in `make_backbone`.
        channels: as in `make_backbone`.

    Raises:
        ModelError: an unknown backbone, or a label that cannot name a module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return assemble_model(
            spec, num_classes=num_classes, image_size=image_size, channels=channels
        )


def assemble_model(
    spec: ModelSpec, *, num_classes: int, image_size: int | None = None, channels: int = RGB
) -> FineTuneModel:
    """Build backbone and heads from torch's global generator, on torch's default device."""
    backbone = make_backbone(spec.backbone, image_size=image_size, channels=channels)
    heads = nn.ModuleDict()
    for label, head in spec.heads.items():
        if "." in label or hasattr(heads, label):
            what = f"`{label}` cannot name a head: torch does not take it as a module name"
            raise ModelError(Problem("model.heads", what, "rename the head, to `label` say"))
        heads[label] = make_head(head, feature_dim=backbone.feature_dim, num_classes=num_classes)
    return FineTuneModel(backbone, heads)
