"""The chains of torchvision's convolutional networks that have a `features` sequence or the like.

Each function follows the `forward` of one class of torchvision and returns the same numbers, bit
for bit. Pooling belongs to the group before it, so that a cut passes as few numbers as it can.
Inception and GoogLeNet stand in `torchvision_inception`, what attends in `torchvision_attention`.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch.nn.functional as F
from torch import nn
from torchvision.models.squeezenet import Fire

from rayft.models.layout import Stage
from rayft.models.stages import (
    Step,
    chain_stage,
    flatten,
    global_average,
    spatial_mean,
    split_after,
    split_before,
    submodules,
)


def resnet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `ResNet`, which ResNeXt and wide ResNet are too."""
    middle = [f"layer{i}" for i in (1, 2, 3)]
    last, pool, classifier = submodules(net, "layer4", "avgpool", "fc")
    return (
        chain_stage("stem", *submodules(net, "conv1", "bn1", "relu", "maxpool")),
        *(chain_stage(name, *submodules(net, name)) for name in middle),
        chain_stage("layer4", last, pool, flatten, classifier),
    )


def mobilenet_v2_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `MobileNetV2`, which pools by a function."""
    stem, *blocks, conv = net.get_submodule("features").children()
    return (
        chain_stage("stem", stem),
        *_numbered("block", blocks),
        chain_stage("conv", conv, global_average, flatten, net.get_submodule("classifier")),
    )


def mobilenet_v3_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `MobileNetV3`: its first fully connected layer is a group."""
    stem, *blocks, conv = net.get_submodule("features").children()
    return (
        chain_stage("stem", stem),
        *_numbered("block", blocks),
        chain_stage("conv", conv, net.get_submodule("avgpool"), flatten),
        chain_stage("classifier", *net.get_submodule("classifier").children()),
    )


def efficientnet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `EfficientNet`, v1 and v2."""
    stem, *blocks, conv = net.get_submodule("features").children()
    return (
        chain_stage("stem", stem),
        *_numbered("stage", blocks),
        chain_stage("conv", conv, *_pooled(net, "avgpool", "classifier")),
    )


def vgg_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `VGG`: a block of convolutions ends in a pooling."""
    features = list(net.get_submodule("features").children())
    *blocks, last = split_after(features, nn.MaxPool2d)
    return (
        *(chain_stage(f"block{i}", *block) for i, block in enumerate(blocks, start=1)),
        chain_stage(f"block{len(blocks) + 1}", *last, net.get_submodule("avgpool"), flatten),
        chain_stage("classifier", *net.get_submodule("classifier").children()),
    )


def alexnet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `AlexNet`: a group for each convolution."""
    *convs, last = split_before(net.get_submodule("features").children(), nn.Conv2d)
    return (
        *(chain_stage(f"conv{i}", *conv) for i, conv in enumerate(convs, start=1)),
        chain_stage(f"conv{len(convs) + 1}", *last, net.get_submodule("avgpool"), flatten),
        chain_stage("classifier", *net.get_submodule("classifier").children()),
    )


def squeezenet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `SqueezeNet`; its classifier is the pooling that was left of it."""
    stem, *fires, last = split_before(net.get_submodule("features").children(), Fire)
    return (
        chain_stage("stem", *stem),
        *(chain_stage(f"fire{i}", *fire) for i, fire in enumerate(fires, start=1)),
        chain_stage(f"fire{len(fires) + 1}", *last, net.get_submodule("classifier"), flatten),
    )


def mnasnet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `MNASNet`: eight layers, six stacks of blocks, a convolution."""
    layers = list(net.get_submodule("layers").children())
    stacks = [layer for layer in layers if isinstance(layer, nn.Sequential)]
    first = layers.index(stacks[0])
    conv = layers[first + len(stacks) :]
    return (
        chain_stage("stem", *layers[:first]),
        *_numbered("stage", stacks),
        chain_stage("conv", *conv, spatial_mean, net.get_submodule("classifier")),
    )


def shufflenet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `ShuffleNetV2`, with the names of its paper."""
    stages = [f"stage{i}" for i in (2, 3, 4)]
    conv, classifier = submodules(net, "conv5", "fc")
    return (
        chain_stage("stem", *submodules(net, "conv1", "maxpool")),
        *(chain_stage(name, *submodules(net, name)) for name in stages),
        chain_stage("conv5", conv, spatial_mean, classifier),
    )


def regnet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `RegNet`, X and Y."""
    *blocks, last = net.get_submodule("trunk_output").children()
    return (
        chain_stage("stem", net.get_submodule("stem")),
        *_numbered("block", blocks),
        chain_stage(f"block{len(blocks) + 1}", last, *_pooled(net, "avgpool", "fc")),
    )


def densenet_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `DenseNet`: a transition belongs to the dense block before it."""
    features = dict(net.get_submodule("features").named_children())
    names = list(features)
    starts = [names.index(name) for name in names if name.startswith("denseblock")]
    *blocks, last = (
        [features[name] for name in names[start:stop]]
        for start, stop in pairwise([*starts, len(names)])
    )
    end = (F.relu, global_average, flatten, net.get_submodule("classifier"))
    return (
        chain_stage("stem", *(features[name] for name in names[: starts[0]])),
        *(chain_stage(f"block{i}", *block) for i, block in enumerate(blocks, start=1)),
        chain_stage(f"block{len(blocks) + 1}", *last, *end),
    )


def convnext_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `ConvNeXt`: a downsampling belongs to the stage after it."""
    stem, first, *rest = net.get_submodule("features").children()
    *middle, last = zip(rest[::2], rest[1::2], strict=True)
    end = (net.get_submodule("avgpool"), *net.get_submodule("classifier").children())
    return (
        chain_stage("stem", stem),
        chain_stage("stage1", first),
        *(chain_stage(f"stage{i}", *stage) for i, stage in enumerate(middle, start=2)),
        chain_stage(f"stage{len(middle) + 2}", *last, *end),
    )


def _numbered(word: str, modules: Iterable[nn.Module]) -> list[Stage]:
    return [chain_stage(f"{word}{i}", module) for i, module in enumerate(modules, start=1)]


def _pooled(net: nn.Module, pool: str, classifier: str) -> tuple[Step, ...]:
    return (net.get_submodule(pool), flatten, net.get_submodule(classifier))
