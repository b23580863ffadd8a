"""The families of `torchvision.models` that rayft knows, and how each is laid out in depth.

    resnet, resnext, wide_resnet   stem, layer1 ... layer4
    mobilenet_v2                   stem, block1 ... block17, conv
    efficientnet, v1 and v2        stem, stage1 ... stage7 (v2_s: stage6), conv

The stem is everything before the first block. Pooling and flattening belong to the last group.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from rayft.models.layout import TORCH_NORMS, Layout, Stage, groups_by_stage
from rayft.models.names import unknown_name

_RESNETS = ("resnet", "resnext", "wide_resnet")
_SEQUENTIALS = ("mobilenet_v2", "efficientnet_")


def supported_torchvision() -> list[str]:
    """Return the names of `torchvision.models` that can be a backbone."""
    names: list[str] = models.list_models(module=models)
    return [name for name in names if name.startswith(_RESNETS + _SEQUENTIALS)]


def make_torchvision_net(name: str) -> nn.Module:
    """Build a network with random weights, its classifier replaced by the identity.

    Raises:
        ModelError: torchvision has no such classifier, or its family is not supported.
    """
    supported = supported_torchvision()
    if name not in supported:
        raise unknown_name(name, library="torchvision", supported=supported)
    net: nn.Module = models.get_model(name, weights=None)
    setattr(net, _classifier(name), nn.Identity())
    return net


def make_torchvision_layout(name: str, net: nn.Module) -> Layout:
    """Return the layout of `net`, made by `make_torchvision_net(name)`."""
    make_stages = _stage_maker(name)
    stages = make_stages(net)
    return Layout(
        depth_groups=tuple(stage.name for stage in stages),
        group_of=groups_by_stage(net, stages),
        feature_dim=_feature_dim(net),
        classifier=(_classifier(name),),
        make_stages=make_stages,
        norm_types=TORCH_NORMS,
    )


def _classifier(name: str) -> str:
    return "fc" if name.startswith(_RESNETS) else "classifier"


def _stage_maker(name: str) -> Callable[[nn.Module], tuple[Stage, ...]]:
    if name.startswith(_RESNETS):
        return _resnet_stages
    return partial(_sequential_stages, "block" if name == "mobilenet_v2" else "stage")


def _feature_dim(net: nn.Module) -> int:
    """Return the width of the last convolution, which in these families is that of the features."""
    widths = [module.out_channels for module in net.modules() if isinstance(module, nn.Conv2d)]
    return widths[-1]


def run_in_order(modules: Iterable[nn.Module], inputs: Tensor) -> Tensor:
    """Apply `modules` one after the other."""
    for module in modules:
        inputs = module(inputs)
    return inputs


def _resnet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `torchvision.models.ResNet._forward_impl`."""

    def pool(images: Tensor) -> Tensor:
        return torch.flatten(run_in_order(last, images), 1)

    stem = tuple(net.get_submodule(part) for part in ("conv1", "bn1", "relu", "maxpool"))
    middle = [(f"layer{i}", net.get_submodule(f"layer{i}")) for i in (1, 2, 3)]
    last = tuple(net.get_submodule(part) for part in ("layer4", "avgpool"))
    return (
        Stage("stem", stem, partial(run_in_order, stem)),
        *(Stage(name, (layer,), layer) for name, layer in middle),
        Stage("layer4", (*last, net.get_submodule("fc")), pool),
    )


def _sequential_stages(middle: str, net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of a network that is one `features` sequence, then a global average.

    MobileNetV2 calls the functional average and has no module for it; EfficientNet's module
    calls the same function.
    """
    parts = list(net.get_submodule("features").children())
    stem, *blocks, conv = parts
    average = [child for name, child in net.named_children() if name == "avgpool"]

    def pool(images: Tensor) -> Tensor:
        return torch.flatten(F.adaptive_avg_pool2d(conv(images), (1, 1)), 1)

    return (
        Stage("stem", (stem,), stem),
        *(Stage(f"{middle}{i}", (block,), block) for i, block in enumerate(blocks, start=1)),
        Stage("conv", (conv, *average, net.get_submodule("classifier")), pool),
    )
