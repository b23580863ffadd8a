"""What a backbone's weights expect of its input, and what they are called."""

from dataclasses import dataclass
from typing import Any, assert_never

from rayft.models.channels import filters_in_words
from rayft.models.named_weights import timm_default, timm_weights, torchvision_weights
from rayft.spec.data import RGB
from rayft.spec.model import (
    BackboneSpec,
    FileWeights,
    PackageWeights,
    RunWeights,
    TimmBackbone,
    TorchvisionBackbone,
)

_RESCALED = ("googlenet", "inception_v3")
"""torchvision normalises for these by ImageNet's mean and deviation, and undoes it inside of the
network, since their weights want pixels from -1 to 1. Networks here take what they are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFacts:
    """Size and normalisation that weights were trained with."""

    image_size: int
    """Height and width in pixels."""
    mean: tuple[float, ...]
    """Mean of each channel, white being 1."""
    std: tuple[float, ...]


def input_facts(spec: BackboneSpec) -> InputFacts:
    """Return the input that the weights of `spec` expect.

    Weights that are no named weights of the library (a file, an earlier run, none) are taken to
    expect what the library's default weights of the same model do.

    Raises:
        ModelError: there are no weights of that name.
    """
    named = isinstance(spec.weights, str) and spec.weights != "none"
    name = str(spec.weights) if named else None
    match spec:
        case TorchvisionBackbone():
            return _torchvision_input(spec.name, name)
        case TimmBackbone():
            return _timm_input(spec.name, name)
        case _:
            assert_never(spec)


def _torchvision_input(model: str, name: str | None) -> InputFacts:
    preset: Any = torchvision_weights(model, name or "DEFAULT").transforms()
    (size,) = preset.crop_size
    if model in _RESCALED:
        return InputFacts(image_size=size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return InputFacts(image_size=size, mean=tuple(preset.mean), std=tuple(preset.std))


def _timm_input(model: str, name: str | None) -> InputFacts:
    # Some models of timm have no weights at all, but all declare their input.
    cfg = timm_weights(model, name) if name else timm_default(model)
    return InputFacts(image_size=cfg.input_size[-1], mean=tuple(cfg.mean), std=tuple(cfg.std))


def weights_in_words(spec: BackboneSpec, *, channels: int = RGB) -> str:
    """Say where the weights of `spec` come from, and what becomes of filters for RGB.

    Nothing is read: whether a file has filters for other channels is told when it is loaded.

    Raises:
        ModelError: there are no weights of that name.
    """
    source = _source_in_words(spec)
    if channels == RGB or spec.weights == "none":
        return source
    how = filters_in_words(RGB, channels)
    noun = "channel" if channels == 1 else "channels"
    return f"{source}; filters for RGB become such for {channels} {noun}: {how}"


def _source_in_words(spec: BackboneSpec) -> str:
    match spec.weights:
        case "none":
            return "none: random"
        case str(name):
            return _name_in_words(spec, name)
        case FileWeights(file=file):
            return f"file {file}"
        case PackageWeights(package=package, resource=resource):
            return f"package {package}, {resource}"
        case RunWeights(checkpoint=checkpoint):
            return f"checkpoint {checkpoint}"
        case _:
            assert_never(spec.weights)


def _name_in_words(spec: BackboneSpec, name: str) -> str:
    match spec:
        case TorchvisionBackbone():
            return f"torchvision {spec.name} {torchvision_weights(spec.name, name).name}"
        case TimmBackbone():
            return f"timm {spec.name} {timm_weights(spec.name, name).tag}"
        case _:
            assert_never(spec)
