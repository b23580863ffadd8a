"""What backbones there are, by name, and what one looks like: for `rayft models`.

A backbone is measured on the meta device. That takes some hundredths of a second each: fine for
all of torchvision, not for timm's thousand, of which only those asked for by name are measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, assert_never

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rayft.errors import ModelError, Problem
from rayft.models.available import NamedWeights, named_weights
from rayft.models.backbone import Backbone, make_backbone
from rayft.models.inputs import input_facts
from rayft.models.names import nearest
from rayft.models.torchvision_nets import supported_torchvision
from rayft.spec.model import BackboneSpec, TimmBackbone, TorchvisionBackbone

Library = Literal["torchvision", "timm"]
LIBRARIES: tuple[Library, ...] = ("torchvision", "timm")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSize:
    """A backbone as it is fine-tuned: without what makes the original class scores."""

    num_params: int
    feature_dim: int
    """D, the width of the features."""
    groups: tuple[tuple[str, int], ...]
    """Depth groups, input side first, with their numbers of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneEntry:
    """A backbone that a spec can name."""

    library: Library
    name: str
    image_size: int
    """Height and width in pixels that its default weights were trained with."""
    weights: tuple[NamedWeights, ...]
    """What `weights:` can name, the default first."""
    size: BackboneSize | None
    """None where it was not measured."""


def find_names(pattern: str | None, library: Library) -> list[str]:
    """Return the names in a library that `pattern` means, in their order.

    Args:
        pattern: an exact name means that alone; `vit*` means what it matches, and any other text
            the names that contain it. None means all.
        library: where to look.
    """
    names = names_of(library)
    if pattern is None:
        return names
    if pattern in names:
        return [pattern]
    if any(sign in pattern for sign in "*?["):
        return [name for name in names if fnmatchcase(name, pattern)]
    return [name for name in names if pattern in name]


def names_of(library: Library) -> list[str]:
    """Return every name in a library."""
    match library:
        case "torchvision":
            return supported_torchvision()
        case "timm":
            # Imported here because timm takes a second that torchvision need not wait for.
            import timm

            names: list[str] = timm.list_models()
            return names
        case _:
            assert_never(library)


def nothing_found(pattern: str, libraries: tuple[Library, ...]) -> ModelError:
    """Return the error for a pattern that no name matches."""
    names = [name for library in libraries for name in names_of(library)]
    what = f"no backbone of {' or '.join(libraries)} is called or contains `{pattern}`"
    return ModelError(Problem("PATTERN", what, f"write {nearest(pattern, names)}"))


def describe(library: Library, name: str, *, measured: bool) -> BackboneEntry:
    """Return what there is to know about a backbone.

    Args:
        library: where it comes from.
        name: one of `names_of(library)`.
        measured: whether to build it, on the meta device, for its size.

    Raises:
        ModelError: it is to be measured, and cannot be a backbone.
    """
    spec = _spec(library, name)
    return BackboneEntry(
        library=library,
        name=name,
        image_size=input_facts(spec).image_size,
        weights=named_weights(spec),
        size=_size(spec) if measured else None,
    )


def _spec(library: Library, name: str) -> BackboneSpec:
    match library:
        case "torchvision":
            return TorchvisionBackbone(kind="torchvision", name=name, weights="none")
        case "timm":
            return TimmBackbone(kind="timm", name=name, weights="none")
        case _:
            assert_never(library)


_FILLS = frozenset(
    getattr(Tensor, f"{name}_")
    for name in ("normal", "uniform", "fill", "zero", "erfinv", "mul", "add", "clamp")
)
"""Methods that initial values are made with. Each gives back what it fills."""


class _Unfilled(TorchFunctionMode):
    """Leaves out the initial values: on the meta device they take half of the time."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        _types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        filled = func in _FILLS and isinstance(args[0], Tensor) and args[0].is_meta
        return args[0] if filled else func(*args, **(kwargs or {}))


def _size(spec: BackboneSpec) -> BackboneSize:
    with torch.device("meta"), _Unfilled():
        backbone = make_backbone(spec)
    sizes = _params_by_group(backbone)
    return BackboneSize(
        num_params=sum(sizes.values()),
        feature_dim=backbone.feature_dim,
        groups=tuple(sizes.items()),
    )


def _params_by_group(backbone: Backbone) -> dict[str, int]:
    sizes = dict.fromkeys(backbone.depth_groups, 0)
    for name, param in backbone.net.named_parameters():
        sizes[backbone.group_of(name)] += param.numel()
    return sizes
