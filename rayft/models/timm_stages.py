"""The chains of timm's networks, where the forward pass is known to be one.

Each function follows `forward_features` and `forward_head` of one class of timm and returns the
same numbers, bit for bit. Groups and their names are those of timm's own matcher (see
`timm_nets`), so that declaring a chain renames nothing; only ResNet's blocks are called `layer1
... layer4`, as everywhere.
"""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from timm.models.beit import Beit
from timm.models.byobnet import ByobNet
from timm.models.convnext import ConvNeXt
from timm.models.deit import VisionTransformerDistilled
from timm.models.densenet import DenseNet
from timm.models.efficientformer import EfficientFormer
from timm.models.efficientnet import EfficientNet
from timm.models.mlp_mixer import MlpMixer
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.regnet import RegNet
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rayft.models.layout import Stage
from rayft.models.stages import chain_stage, run_in_order

# ruff: noqa: ANN401  timm's networks are untyped here


def stage_maker(net: Any) -> Callable[[Any], tuple[Stage, ...]] | None:
    """Return the function that finds the stages of `net`, None where it is no known chain."""
    if isinstance(net, Beit) and net.rel_pos_bias is not None:
        # Made in the stem and used by every block: two tensors would pass a cut.
        return None
    find = _STAGES.get(type(net))
    if find is None or _holds_parameters(find(net)[-1]):
        return find
    return partial(_joined, find)


def _holds_parameters(stage: Stage) -> bool:
    return any(next(module.parameters(), None) is not None for module in stage.modules)


def _joined(find: Callable[[Any], tuple[Stage, ...]], net: Any) -> tuple[Stage, ...]:
    """Return the stages of a network that has no parameter after its last block.

    Known once, of the official network: one that is cut has none there either.
    """
    *stages, block, end = find(net)
    forward = partial(run_in_order, (block.forward, end.forward))
    return (*stages, Stage(block.name, (*block.modules, *end.modules), forward))


def _chain(
    net: Any,
    stem: Stage,
    blocks: Iterable[tuple[nn.Module, ...]],
    *,
    norm: tuple[nn.Module, ...] = (),
    last: tuple[nn.Module, ...] = (),
    head: str,
) -> tuple[Stage, ...]:
    """Return stem, blocks, and what comes after the blocks as `head`.

    Args:
        net: its own `forward_head` ends the chain.
        stem: the first stage.
        blocks: the modules of each block.
        norm: what runs after the last block and belongs to it.
        last: what runs after that, and before `forward_head`.
        head: names of the modules that `forward_head` uses, as far as they are there.
    """
    *middle, top = blocks
    parts = (getattr(net, name, None) for name in head.split())
    end = (*last, *(part for part in parts if isinstance(part, nn.Module)))
    stages = [stem, *(chain_stage(f"block{i}", *block) for i, block in enumerate(middle))]
    last_block = chain_stage(f"block{len(middle)}", *top, *norm)
    return (*stages, last_block, Stage("head", end, partial(_finish, net, last)))


def _finish(net: Any, steps: Iterable[nn.Module], inputs: Tensor) -> Tensor:
    features: Tensor = net.forward_head(run_in_order(steps, inputs))
    return features


def _resnet_stages(net: Any) -> tuple[Stage, ...]:
    """Return the chain of `timm.models.resnet.ResNet`."""
    layers = [(f"layer{i}", net.get_submodule(f"layer{i}")) for i in (1, 2, 3)]
    last = (net.layer4, net.global_pool, net.fc)
    return (
        chain_stage("stem", net.conv1, net.bn1, net.act1, net.maxpool),
        *(chain_stage(name, layer) for name, layer in layers),
        Stage("layer4", last, partial(_finish, net, (net.layer4,))),
    )


def _efficientnet_stages(net: Any) -> tuple[Stage, ...]:
    stem = chain_stage("stem", net.conv_stem, net.bn1)
    norm = (net.conv_head, net.bn2)
    return _chain(net, stem, zip(net.blocks), norm=norm, head="global_pool classifier")


def _mobilenet_stages(net: Any) -> tuple[Stage, ...]:
    """Return the chain of `MobileNetV3`, whose last convolution comes after the pooling."""
    stem = chain_stage("stem", net.conv_stem, net.bn1)
    head = "global_pool conv_head norm_head act2 flatten classifier"
    return _chain(net, stem, zip(net.blocks), head=head)


def _convnext_stages(net: Any) -> tuple[Stage, ...]:
    stem = chain_stage("stem", net.stem)
    return _chain(net, stem, zip(net.stages), last=(net.norm_pre,), head="head")


def _regnet_stages(net: Any) -> tuple[Stage, ...]:
    stem = chain_stage("stem", net.stem)
    blocks = zip((net.s1, net.s2, net.s3, net.s4))
    return _chain(net, stem, blocks, last=(net.final_conv,), head="head")


def _byobnet_stages(net: Any) -> tuple[Stage, ...]:
    """Return the chain of `ByobNet`: RepVGG, MobileOne, GENet and others."""
    stem = chain_stage("stem", net.stem)
    return _chain(net, stem, zip(net.stages), norm=(net.final_conv,), head="head")


def _densenet_stages(net: Any) -> tuple[Stage, ...]:
    """Return the chain of `DenseNet`, in which a transition follows each dense block but one."""
    parts = dict(net.features.named_children())
    names = list(parts)
    starts = [names.index(name) for name in names if name.startswith("denseblock")]
    stem = chain_stage("stem", *(parts[name] for name in names[: starts[0]]))
    blocks = [
        tuple(parts[name] for name in names[start:stop])
        for start, stop in pairwise([*starts, len(names) - 1])
    ]
    head = "global_pool head_drop classifier"
    return _chain(net, stem, blocks, last=(parts["norm5"],), head=head)


def _mixer_stages(net: Any) -> tuple[Stage, ...]:
    stem = chain_stage("stem", net.stem)
    return _chain(net, stem, zip(net.blocks), norm=(net.norm,), head="head_drop head")


def _efficientformer_stages(net: Any) -> tuple[Stage, ...]:
    stem = chain_stage("stem", net.stem)
    return _chain(net, stem, zip(net.stages), norm=(net.norm,), head="head_drop head head_dist")


def _swin_stages(net: Any) -> tuple[Stage, ...]:
    stem = chain_stage("stem", net.patch_embed)
    return _chain(net, stem, zip(net.layers), last=(net.norm,), head="head")


def _vit_stages(net: Any) -> tuple[Stage, ...]:
    """Return the chain of `VisionTransformer` and of DeiT with its token for distillation."""

    def embed(images: Tensor) -> Tensor:
        tokens = net._pos_embed(net.patch_embed(images))
        embedded: Tensor = net.norm_pre(net.patch_drop(tokens))
        return embedded

    modules = (net.patch_embed, net.pos_drop, net.patch_drop, net.norm_pre)
    stem = Stage("stem", modules, embed, _own_tensors(net))
    head = "attn_pool fc_norm head_drop head head_dist"
    return _chain(net, stem, zip(net.blocks), norm=(net.norm,), head=head)


def _beit_stages(net: Any) -> tuple[Stage, ...]:
    def embed(images: Tensor) -> Tensor:
        patches = net.patch_embed(images)
        tokens = torch.cat((net.cls_token.expand(len(patches), -1, -1), patches), dim=1)
        if net.pos_embed is not None:
            tokens = tokens + net.pos_embed
        embedded: Tensor = net.pos_drop(tokens)
        return embedded

    stem = Stage("stem", (net.patch_embed, net.pos_drop), embed, _own_tensors(net))
    return _chain(net, stem, zip(net.blocks), norm=(net.norm,), head="fc_norm head_drop head")


def _own_tensors(net: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters that belong to no submodule: tokens and positions."""
    return tuple(name for name, _ in net.named_parameters(recurse=False))


_STAGES: dict[type[nn.Module], Callable[[Any], tuple[Stage, ...]]] = {
    Beit: _beit_stages,
    ByobNet: _byobnet_stages,
    ConvNeXt: _convnext_stages,
    DenseNet: _densenet_stages,
    EfficientFormer: _efficientformer_stages,
    EfficientNet: _efficientnet_stages,
    MlpMixer: _mixer_stages,
    MobileNetV3: _mobilenet_stages,
    RegNet: _regnet_stages,
    ResNet: _resnet_stages,
    SwinTransformer: _swin_stages,
    VisionTransformer: _vit_stages,
    VisionTransformerDistilled: _vit_stages,
}
"""Exact classes: a subclass may run its parts in another order."""
