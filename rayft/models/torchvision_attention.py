"""The chains of torchvision's networks that attend: ViT, Swin and MaxViT."""

import torch
from torch import Tensor, nn

from rayft.models.layout import Stage
from rayft.models.stages import chain_stage, submodules


def vit_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `VisionTransformer`.

    The stem makes tokens [B, N, D] of the patches and adds class token and positions. The last
    norm belongs to the last block, as in timm: alone it would be a group of two vectors.
    """
    dropout, layers, norm = submodules(net, "encoder.dropout", "encoder.layers", "encoder.ln")
    *blocks, last = layers.children()
    project = net.get_submodule("conv_proj")

    def embed(images: Tensor) -> Tensor:
        patches: Tensor = net._process_input(images)  # type: ignore[operator]  # torch: a module
        token = net.get_parameter("class_token").expand(len(patches), -1, -1)
        tokens = torch.cat([token, patches], dim=1)
        embedded: Tensor = dropout(tokens + net.get_parameter("encoder.pos_embedding"))
        return embedded

    tensors = ("class_token", "encoder.pos_embedding")
    return (
        Stage("stem", (project, dropout), embed, tensors),
        *(chain_stage(f"block{i}", block) for i, block in enumerate(blocks)),
        chain_stage(f"block{len(blocks)}", last, norm, class_token, *submodules(net, "heads")),
    )


def class_token(tokens: Tensor) -> Tensor:
    """Return the first token [B, D] of `tokens` [B, N, D]."""
    return tokens[:, 0]


def swin_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `SwinTransformer`, v1 and v2: merging patches opens a stage."""
    stem, first, *rest = net.get_submodule("features").children()
    *middle, last = zip(rest[::2], rest[1::2], strict=True)
    end = submodules(net, "norm", "permute", "avgpool", "flatten", "head")
    return (
        chain_stage("stem", stem),
        chain_stage("stage1", first),
        *(chain_stage(f"stage{i}", *stage) for i, stage in enumerate(middle, start=2)),
        chain_stage(f"stage{len(middle) + 2}", *last, *end),
    )


def maxvit_stages(net: nn.Module) -> tuple[Stage, ...]:
    """Return the chain of `MaxVit`: the layers between pooling and classifier are a group."""
    *blocks, last = net.get_submodule("blocks").children()
    pool, flatten, *classifier = net.get_submodule("classifier").children()
    return (
        chain_stage("stem", net.get_submodule("stem")),
        *(chain_stage(f"block{i}", block) for i, block in enumerate(blocks, start=1)),
        chain_stage(f"block{len(blocks) + 1}", last, pool, flatten),
        chain_stage("classifier", *classifier),
    )
