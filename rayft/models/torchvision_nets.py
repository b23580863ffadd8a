"""Networks of `torchvision.models`, and their layouts.

Names, depth groups and what is left of a classifier stand in `torchvision_families`.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings
from torchvision.ops import StochasticDepth

from rayft.errors import ModelError, Problem
from rayft.models.inputs import input_facts
from rayft.models.layout import TORCH_NORMS, Layout, groups_by_stage
from rayft.models.names import refused_size, unknown_name
from rayft.models.torchvision_families import FAMILIES, Family
from rayft.spec.model import TorchvisionBackbone

_POSITIONS = "encoder.pos_embedding"


def supported_torchvision() -> list[str]:
    """Return the names of `torchvision.models` that can be a backbone."""
    names: list[str] = models.list_models(module=models)
    return [name for name in names if any(name.startswith(f.prefixes) for f in FAMILIES)]


def make_torchvision_net(spec: TorchvisionBackbone, *, image_size: int | None) -> nn.Module:
    """Build a network with random weights, without the layer that makes class scores.

    Args:
        spec: names it.
        image_size: height and width of the images, for a network whose weights depend on it (ViT's
            positions); None is the size that the weights of `spec` were trained with.

    Raises:
        ModelError: torchvision has no such model, or no weights of that name, or the model cannot
            take images of that size.
    """
    supported = supported_torchvision()
    if spec.name not in supported:
        raise unknown_name(spec.name, library="torchvision", supported=supported)
    family = _family_of(spec.name)
    options = dict(family.options)
    if family.takes_image_size:
        options["image_size"] = image_size or input_facts(spec).image_size
    try:
        net = family.make_net(spec.name, **options)
    except AssertionError as error:
        raise refused_size(image_size, spec, str(error)) from error
    net.set_submodule(family.classifier, family.replacement())
    if family.dropout:
        net.set_submodule(family.dropout, nn.Identity())
    if spec.stochastic_depth is not None:
        _set_stochastic_depth(net, spec.name, spec.stochastic_depth)
    return net


def _set_stochastic_depth(net: nn.Module, name: str, rate: float) -> None:
    """Let the chance rise linearly from 0 at the first block (Huang et al. 2016, section 3)."""
    blocks = [module for module in net.modules() if isinstance(module, StochasticDepth)]
    if not blocks:
        what = f"torchvision's {name} has no stochastic depth"
        fix = "remove it, or choose a ConvNeXt, EfficientNet, MaxViT or Swin"
        raise ModelError(Problem("model.backbone.stochastic_depth", what, fix))
    for place, block in enumerate(blocks):
        block.p = rate * place / max(1, len(blocks) - 1)


def make_torchvision_layout(name: str, net: nn.Module) -> Layout:
    """Return the layout of `net`, made by `make_torchvision_net` for the model `name`."""
    family = _family_of(name)
    stages = family.make_stages(net)
    return Layout(
        depth_groups=tuple(stage.name for stage in stages),
        group_of=groups_by_stage(net, stages),
        feature_dim=family.feature_dim or _width_of_last_layer(net),
        classifier=(family.classifier, *family.auxiliary),
        make_stages=family.make_stages,
        channel_axis=family.channel_axis,
        skipping=(StochasticDepth, "p"),
        norm_types=TORCH_NORMS,
        translate=partial(_translate, family) if family.renamed else None,
    )


def _family_of(name: str) -> Family:
    return next(family for family in FAMILIES if name.startswith(family.prefixes))


def _width_of_last_layer(net: nn.Module) -> int:
    """Return the width of the last layer with weights, in the order in which they were made."""
    for module in reversed(list(net.modules())):
        if isinstance(module, nn.BatchNorm2d):
            return module.num_features
        if isinstance(module, nn.Conv2d):
            return module.out_channels
        if isinstance(module, nn.Linear):
            return module.out_features
    raise AssertionError("a network without layers")


def _translate(family: Family, net: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return `state` under today's names, its positions resampled to the size of `net`."""
    renamed = _rename(family.renamed, net, state)
    if not family.takes_image_size or _POSITIONS not in renamed:
        return renamed
    if renamed[_POSITIONS].shape == net.get_parameter(_POSITIONS).shape:
        return renamed
    try:
        resampled: Mapping[str, Tensor] = interpolate_embeddings(
            net.image_size, net.patch_size, OrderedDict(renamed)
        )
    except ValueError:
        # Not a square of patches: the file is not one of this network.
        return renamed
    return resampled


def _rename(
    patterns: tuple[tuple[str, str], ...], _net: nn.Module, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return `state` with the names that networks have today."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in patterns:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
