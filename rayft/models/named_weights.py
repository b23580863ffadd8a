"""Weights that go by a name: those of torchvision and of timm.

A name becomes a file in the library's own cache, downloaded once, on the driver, and the file is
verified whole each time, since a download may be cut off or a cache damaged. Without a network
the error says which file belongs where.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import torch
from torchvision.models import WeightsEnum, get_model_weights

from rayft.errors import ModelError, Problem
from rayft.models.names import unknown_weights
from rayft.models.reachability import why_unreachable
from rayft.spec.model import BackboneSpec, TimmBackbone, TorchvisionBackbone

_WHERE = "model.backbone.weights"
_CONNECT_TIMEOUT_S = 10.0
_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """A file of weights in a cache on this machine."""

    path: Path
    sha256: str | None
    """Its hash or the beginning of it, where the library's naming tells."""
    source: str
    """Library, model and name of the weights."""


def torchvision_weights(model: str, name: str) -> WeightsEnum:
    """Return torchvision's entry for the weights `name` (`DEFAULT`, `IMAGENET1K_V1`) of `model`.

    Raises:
        ModelError: there are no weights of that name.
    """
    enum: Any = get_model_weights(model)
    if name not in enum.__members__:
        raise unknown_weights(name, of=f"torchvision's {model}", known=[w.name for w in enum])
    entry: WeightsEnum = enum[name]
    return entry


def torchvision_cache_path(entry: WeightsEnum) -> Path:
    """Return where torch.hub keeps the file of `entry`, whether it is there or not."""
    url: str = entry.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def fetch_torchvision(model: str, name: str) -> NamedFile:
    """Return the cached file of torchvision's weights, downloading it where it is missing.

    Raises:
        ModelError: unknown name, or the file is not cached and cannot be downloaded.
    """
    entry = torchvision_weights(model, name)
    path = torchvision_cache_path(entry)
    in_name = re.search(r"-([a-f0-9]{8,})\.", path.name)
    sha256 = in_name.group(1) if in_name else None
    if not path.exists():
        _download(entry.url, path, sha256)
    source = f"torchvision {model} {entry.name}"
    return NamedFile(path=path, sha256=sha256, source=source)


def _download(url: str, path: Path, sha256: str | None) -> None:
    """Download through torch.hub, which writes beside `path` and renames when it is complete."""
    reason = why_unreachable(url, timeout_s=_CONNECT_TIMEOUT_S)
    if reason is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), sha256, progress=True)
        except (OSError, RuntimeError) as error:
            reason = str(error)
        else:
            return
    what = f"{url} cannot be downloaded to {path} ({reason})"
    fix = f"place that file at {path}, or set weights to {{file: path}} or none"
    raise ModelError(Problem(_WHERE, what, fix))


def timm_default(model: str) -> Any:  # noqa: ANN401  timm's PretrainedCfg, untyped
    """Return timm's description of the default weights of `model`, which may have no file."""
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(model)


def timm_weights(model: str, name: str) -> Any:  # noqa: ANN401  timm's PretrainedCfg, untyped
    """Return timm's description of the weights `name` (`DEFAULT` or a tag) of `model`.

    Raises:
        ModelError: there are no weights of that name, or the model has none at all.
    """
    from timm.models import get_arch_pretrained_cfgs

    known = {cfg.tag: cfg for cfg in get_arch_pretrained_cfgs(model).values() if cfg.has_weights}
    if name == "DEFAULT" and known:
        return timm_default(model)
    if name not in known:
        raise unknown_weights(name, of=f"timm's {model}", known=sorted(map(str, known)))
    return known[name]


def fetch_timm(model: str, name: str) -> NamedFile:
    """Return the cached file of timm's weights, downloading it from the hub where it is missing.

    Only safetensors files are taken. The hub's cache calls a file by its hash, which is then
    checked.

    Raises:
        ModelError: unknown name, no safetensors file on the hub, or it cannot be downloaded.
    """
    from huggingface_hub import constants

    cfg = timm_weights(model, name)
    repo, _, revision = (cfg.hf_hub_id or "").partition("@")
    file_name = cfg.hf_hub_filename or "model.safetensors"
    if not repo or not file_name.endswith(".safetensors"):
        what = f"timm keeps `{model}.{cfg.tag}` at {cfg.url or file_name}, not as safetensors"
        fix = "download it yourself and set weights to {file: path}, or choose other weights"
        raise ModelError(Problem(_WHERE, what, fix))
    path = _in_hub_cache(cfg)
    if path is None:
        url = f"{constants.ENDPOINT}/{repo}/resolve/{revision or 'main'}/{file_name}"
        path = _download_from_hub(repo, file_name, revision or None, url)
    blob = Path(path).resolve().name
    sha256 = blob if re.fullmatch(f"[a-f0-9]{{{_SHA256_DIGITS}}}", blob) else None
    return NamedFile(path=Path(path), sha256=sha256, source=f"timm {model} {cfg.tag}")


def is_at_hand(spec: BackboneSpec) -> bool:
    """Return whether the weights of a backbone can be read without a download.

    Raises:
        ModelError: unknown name.
    """
    if not isinstance(spec.weights, str) or spec.weights == "none":
        return True
    match spec:
        case TorchvisionBackbone():
            return torchvision_cache_path(torchvision_weights(spec.name, spec.weights)).exists()
        case TimmBackbone():
            return _in_hub_cache(timm_weights(spec.name, spec.weights)) is not None
        case _:
            assert_never(spec)


def _in_hub_cache(cfg: Any) -> str | None:  # noqa: ANN401  as in timm_default
    """Return the file of weights in the hub's cache; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    repo, _, revision = (cfg.hf_hub_id or "").partition("@")
    if not repo:
        return None
    file_name = cfg.hf_hub_filename or "model.safetensors"
    path = try_to_load_from_cache(repo, file_name, revision=revision or None)
    return path if isinstance(path, str) else None


def _download_from_hub(repo: str, file_name: str, revision: str | None, url: str) -> str:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    # Asked first, because the hub's client tries for most of a minute when there is no network.
    reason = why_unreachable(url, timeout_s=_CONNECT_TIMEOUT_S)
    if reason is None:
        try:
            return hf_hub_download(repo, file_name, revision=revision)
        except (OSError, HfHubHTTPError) as error:
            reason = str(error)
    what = f"{url} cannot be downloaded into {constants.HF_HUB_CACHE} ({reason})"
    fix = f"run `hf download {repo}` where there is a network, and set weights to {{file: path}}"
    raise ModelError(Problem(_WHERE, what, fix))
