"""The families of `torchvision.models`: their depth groups, and what is left of their classifiers.

    alexnet                        conv1 ... conv5, classifier
    convnext                       stem, stage1 ... stage4
    densenet                       stem, block1 ... block4
    efficientnet, v1 and v2        stem, stage1 ... stage7 (v2_s: stage6), conv
    googlenet                      stem, inception3a ... inception5b
    inception_v3                   stem, Mixed_5b ... Mixed_7c
    maxvit                         stem, block1 ... block4, classifier
    mnasnet                        stem, stage1 ... stage6, conv
    mobilenet_v2                   stem, block1 ... block17, conv
    mobilenet_v3                   stem, block1 ... block15 (small: block11), conv, classifier
    regnet                         stem, block1 ... block4
    resnet, resnext, wide_resnet   stem, layer1 ... layer4
    shufflenet_v2                  stem, stage2 ... stage4, conv5
    squeezenet                     stem, fire1 ... fire8
    swin, v1 and v2                stem, stage1 ... stage4
    vgg                            block1 ... block5, classifier
    vit                            stem, block0 ... block11 (l: block23, h: block31)

The stem is everything before the first block. Pooling belongs to the group before it.

**What is left of a classifier.** Only the layer that makes class scores is removed, and the
dropout right before it, since the heads of a spec have their own. Fully connected layers before
that one are pretrained like everything below them, so they stay, as the last group `classifier`
(AlexNet and VGG: D = 4096; MaxViT: 512; MobileNetV3: 1280, small 1024), with the dropout between
them, which works where that group trains. SqueezeNet's classifier is one convolution to the
class scores: its features are the 512 channels below, averaged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import final

import torch
from torch import nn
from torchvision import models
from torchvision.models.mnasnet import MNASNet
from torchvision.models.regnet import ResBottleneckBlock, SimpleStemIN

from rayft.models.layout import Stage
from rayft.models.torchvision_attention import maxvit_stages, swin_stages, vit_stages
from rayft.models.torchvision_convnets import (
    alexnet_stages,
    convnext_stages,
    densenet_stages,
    efficientnet_stages,
    mnasnet_stages,
    mobilenet_v2_stages,
    mobilenet_v3_stages,
    regnet_stages,
    resnet_stages,
    shufflenet_stages,
    squeezenet_stages,
    vgg_stages,
)
from rayft.models.torchvision_inception import googlenet_stages, inception_stages


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What there is to know about the models of one class of torchvision."""

    prefixes: tuple[str, ...]
    """How their names begin."""
    make_stages: Callable[[nn.Module], tuple[Stage, ...]]
    classifier: str
    """The module that makes class scores."""
    dropout: str | None = None
    """The dropout right before it, where it is not part of it."""
    auxiliary: tuple[str, ...] = ()
    """Further modules that make class scores, which are not built."""
    feature_dim: int | None = None
    """D where all models have the same; None where their last layer tells."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Passed to the builder."""
    takes_image_size: bool = False
    """Whether the builder must know the size of the images."""
    make_net: Callable[..., nn.Module] = models.get_model
    """Builds a model by its name."""
    replacement: Callable[[], nn.Module] = nn.Identity
    """Builds what stands in the place of the classifier."""
    channel_axis: int = 1
    """Where the channels of feature maps are: 1 in [B, C, H, W], -1 in [B, H, W, C]."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Names in official files that are older than the network: pattern and replacement."""


@final
class _MNASNet(MNASNet):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's class, which refuses tensors that do not say which version wrote them.

    Versions 1 and 2 differ in shapes, and shapes are compared before anything is loaded.
    """

    def _load_from_state_dict(
        self,
        state_dict: dict[str, object],
        prefix: str,
        local_metadata: dict[str, object],
        *rest: object,
    ) -> None:
        local_metadata.setdefault("version", self._version)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def _make_mnasnet(name: str) -> nn.Module:
    return _MNASNet(float(name.removeprefix("mnasnet").replace("_", ".")))


def _make_regnet(name: str) -> nn.Module:
    """Build a RegNet on the default device, the meta device too.

    torchvision works out the widths of its blocks with tensors, and reads them: that needs the
    CPU, and the rest does not.
    """
    device = torch.get_default_device()

    def placed(make: Callable[..., nn.Module], *args: object) -> nn.Module:
        with device:
            return make(*args)

    parts = {"stem_type": SimpleStemIN, "block_type": ResBottleneckBlock}
    with torch.device("cpu"):
        net: nn.Module = models.get_model(
            name, **{option: partial(placed, make) for option, make in parts.items()}
        )
    return net


# torchvision warns where these two are left to decide how they start.
_INCEPTION: Mapping[str, object] = {
    "aux_logits": False,
    "transform_input": False,
    "init_weights": True,
}
FAMILIES: tuple[Family, ...] = (
    Family(prefixes=("alexnet",), make_stages=alexnet_stages, classifier="classifier.6"),
    Family(prefixes=("convnext_",), make_stages=convnext_stages, classifier="classifier.2"),
    Family(
        prefixes=("densenet",),
        make_stages=densenet_stages,
        classifier="classifier",
        renamed=((r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2"),),
    ),
    Family(prefixes=("efficientnet_",), make_stages=efficientnet_stages, classifier="classifier"),
    Family(
        prefixes=("googlenet",),
        make_stages=googlenet_stages,
        classifier="fc",
        dropout="dropout",
        auxiliary=("aux1", "aux2"),
        feature_dim=1024,
        options=_INCEPTION,
    ),
    Family(
        prefixes=("inception_v3",),
        make_stages=inception_stages,
        classifier="fc",
        dropout="dropout",
        auxiliary=("AuxLogits",),
        feature_dim=2048,
        options=_INCEPTION,
    ),
    Family(prefixes=("maxvit_",), make_stages=maxvit_stages, classifier="classifier.5"),
    Family(
        prefixes=("mnasnet",),
        make_stages=mnasnet_stages,
        classifier="classifier",
        make_net=_make_mnasnet,
    ),
    Family(prefixes=("mobilenet_v2",), make_stages=mobilenet_v2_stages, classifier="classifier"),
    Family(
        prefixes=("mobilenet_v3_",),
        make_stages=mobilenet_v3_stages,
        classifier="classifier.3",
        dropout="classifier.2",
    ),
    Family(
        prefixes=("regnet_",), make_stages=regnet_stages, classifier="fc", make_net=_make_regnet
    ),
    Family(
        prefixes=("resnet", "resnext", "wide_resnet"), make_stages=resnet_stages, classifier="fc"
    ),
    Family(prefixes=("shufflenet_v2_",), make_stages=shufflenet_stages, classifier="fc"),
    Family(
        prefixes=("squeezenet",),
        make_stages=squeezenet_stages,
        classifier="classifier",
        feature_dim=512,
        replacement=partial(nn.AdaptiveAvgPool2d, (1, 1)),
    ),
    Family(prefixes=("swin_",), make_stages=swin_stages, classifier="head", channel_axis=-1),
    Family(
        prefixes=("vgg",),
        make_stages=vgg_stages,
        classifier="classifier.6",
        dropout="classifier.5",
    ),
    Family(
        prefixes=("vit_",),
        make_stages=vit_stages,
        classifier="heads.head",
        takes_image_size=True,
        renamed=((r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3.")),
    ),
)
