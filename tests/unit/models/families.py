"""A small member of every family of backbones, and how to try one."""

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision import models

from rayft.models.backbone import Backbone, make_backbone
from rayft.models.matching import match_by_name
from rayft.spec.model import BackboneSpec, TimmBackbone, TorchvisionBackbone


@dataclass(frozen=True)
class Member:
    """A backbone, and the smallest images that it takes, or that are fast enough."""

    library: str
    name: str
    size: int

    @property
    def spec(self) -> BackboneSpec:
        if self.library == "timm":
            return TimmBackbone(kind="timm", name=self.name, weights="none")
        return TorchvisionBackbone(kind="torchvision", name=self.name, weights="none")

    def __str__(self) -> str:
        return f"{self.library}-{self.name}"


def _torchvision(size: int, *names: str) -> list[Member]:
    return [Member("torchvision", name, size) for name in names]


def _timm(size: int, *names: str) -> list[Member]:
    return [Member("timm", name, size) for name in names]


TORCHVISION = [
    *_torchvision(32, "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s"),
    *_torchvision(32, "googlenet", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small"),
    *_torchvision(32, "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"),
    *_torchvision(32, "resnext50_32x4d", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn"),
    *_torchvision(64, "alexnet", "vit_b_32"),
    *_torchvision(75, "inception_v3"),
    *_torchvision(224, "maxvit_t"),
]
TIMM = [
    *_timm(32, "convnext_atto", "densenet121", "mobilenetv3_small_050", "regnetx_002"),
    *_timm(32, "repvgg_a0", "resnet10t", "tf_efficientnet_lite0"),
    *_timm(64, "deit_tiny_distilled_patch16_224", "mixer_s32_224", "test_vit"),
    *_timm(224, "efficientformer_l1", "swin_tiny_patch4_window7_224"),
]
MEMBERS = TORCHVISION + TIMM
ONE_OF_EACH = [member for member in MEMBERS if member.name not in {"resnext50_32x4d", "vgg11"}]
"""Without those that another member's class makes too."""


def make_official(member: Member) -> nn.Module:
    """Return the library's own model with its classifier, random weights, in evaluation mode.

    What a library starts at zero (tokens, shifts, layer scales) is moved away from it, so that no
    part of the network stays without effect.
    """
    kwargs: dict[str, Any] = {}
    if member.name in {"googlenet", "inception_v3"}:
        kwargs = {"init_weights": True, "aux_logits": True, "transform_input": False}
    if member.name.startswith(("deit", "mixer", "test_vit")):
        kwargs = {"img_size": member.size}
    if member.name.startswith("vit"):
        kwargs = {"image_size": member.size}
    make = timm.create_model if member.library == "timm" else models.get_model
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = make(member.name, num_classes=7, **kwargs)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for param in net.parameters():
            if param.numel() < 10**5 and param.min() == param.max():
                param.add_(0.1 * torch.rand(param.shape, generator=generator))
    evaluated: nn.Module = net.eval()
    return evaluated


def load_official(member: Member, official: nn.Module) -> Backbone:
    """Return our backbone with the weights of `official`, matched as a file of them would be."""
    backbone = make_backbone(member.spec, image_size=member.size).eval()
    plain = {name: tensor.clone() for name, tensor in official.state_dict().items()}
    backbone.net.load_state_dict(match_by_name(backbone, plain).state, strict=True)
    return backbone


def official_features(member: Member, official: nn.Module, images: Tensor) -> Tensor:
    """Return what the original hands to the layer that makes class scores, [B, D]."""
    if member.library == "timm":
        features: Tensor = official.forward_head(  # type: ignore[operator]
            official.forward_features(images),  # type: ignore[operator]
            pre_logits=True,
        )
        return features
    seen: list[Tensor] = []
    last = [
        module
        for name, module in official.named_modules()
        if isinstance(module, nn.Conv2d if "squeezenet" in member.name else nn.Linear)
        and not name.startswith(("aux", "AuxLogits"))
    ][-1]
    handle = last.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    official(images)
    handle.remove()
    (found,) = seen
    return found.mean((2, 3)) if found.ndim == 4 else found


def random_images(count: int, size: int, seed: int = 1) -> Tensor:
    """Return images [count, 3, size, size] as they come normalised."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
