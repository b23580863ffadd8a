"""Refuse a name that is not known, and say which are near it."""

from collections.abc import Sequence
from difflib import get_close_matches

from rayft.errors import ModelError, Problem
from rayft.spec.model import BackboneSpec

_MAX_LISTED = 30


def unknown_name(name: str, *, library: str, supported: Sequence[str]) -> ModelError:
    """Return the error for a backbone that `library` lacks or rayft does not support."""
    what = f"rayft knows no backbone `{name}` of {library}"
    advice = f"write {nearest(name, supported)}"
    return ModelError(Problem("model.backbone.name", what, advice))


def unknown_weights(name: str, *, of: str, known: Sequence[str]) -> ModelError:
    """Return the error for weights that the model `of` does not have under `name`."""
    what = f"{of} has no weights named `{name}`"
    choices = ["DEFAULT", *known, "none"] if known else ["none"]
    advice = f"write {nearest(name, choices)}; for a file write `weights: {{file: path}}`"
    return ModelError(Problem("model.backbone.weights", what, advice))


def refused_size(size: int | None, spec: BackboneSpec, reason: str) -> ModelError:
    """Return the error for images of a size that a network cannot be built for."""
    what = f"{spec.name} cannot be built for images of {size} x {size} pixels: {reason}"
    fix = "leave it out for the size its weights were trained with, or choose a near multiple"
    return ModelError(Problem("data.image_size", what, fix))


def nearest(name: str, choices: Sequence[str]) -> str:
    """Return the choices most like `name` for the end of a sentence, or a list of them."""
    close = get_close_matches(name, choices, n=4, cutoff=0.6)
    few = close or list(choices[:_MAX_LISTED])
    rest = "" if close or len(choices) <= len(few) else f" or one of {len(choices) - len(few)} more"
    return ", ".join(f"`{choice}`" for choice in few) + rest
