"""Facts about a model for the plan, measured on the meta device: no weight is read or made.

Activations and multiply-adds are counted where tensors pass: at every leaf module and every
module with parameters of its own. Operations between modules (the sum of a residual block, the
products inside attention) are not seen, so both are estimates from below.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention

from rayft.errors import ModelError, Problem
from rayft.models.channels import per_channel
from rayft.models.inputs import input_facts, weights_in_words
from rayft.models.layout import is_leaf
from rayft.models.model import FineTuneModel, assemble_model
from rayft.models.other_sizes import check_sums
from rayft.models.removal import cannot_go
from rayft.plan.facts import GroupFacts, ModelFacts, ParamFacts, ParamKind
from rayft.spec.data import RGB
from rayft.spec.model import ModelSpec

_BYTES_PER_FLOAT = 4
_BACKBONE = "backbone.net."
_LAYERS_PER_ATTENTION = 4
"""Queries, keys, values and the output are each a linear layer."""
_PER_ATTENTION = 5
"""What these four make, and what attending makes of the first three."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """What one forward pass of one row leaves behind, by part of the model."""

    numbers: Counter[str] = field(default_factory=Counter)
    multiply_adds: Counter[str] = field(default_factory=Counter)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of what each group makes of one row."""
    map_sizes: dict[str, int] = field(default_factory=dict)
    """Height of the last map in each part."""


def model_facts(
    spec: ModelSpec,
    *,
    num_classes: int,
    image_size: int | Literal["auto"],
    channels: int = RGB,
) -> ModelFacts:
    """Return what a plan needs to know about the model.

    Args:
        spec: the `model:` section; its weights are named but not read.
        num_classes: C, the number of scores.
        image_size: height and width in pixels; `auto` takes what the weights were trained with.
        channels: those of the images.

    Raises:
        ModelError: unknown backbone or weights, or the backbone cannot take images of that size or
            so many channels.
    """
    given = None if image_size == "auto" else image_size
    # Built first: it is what knows the names that there are.
    with torch.device("meta"):
        model = assemble_model(
            spec, num_classes=num_classes, image_size=given, channels=channels
        ).eval()
    inputs = input_facts(spec.backbone)
    size = given or inputs.image_size
    advice = f"set data.image_size to {inputs.image_size}, which its weights were trained with"
    if spec.backbone.drop or spec.backbone.strides:
        advice = f"undo what no longer fits of drop and strides, or {advice}"
    images = torch.empty(1, channels, size, size, device="meta")
    cost = _measure(model, images, advice, spec.backbone.drop)
    if (spec.backbone.strides or spec.backbone.drop) and size < inputs.image_size:
        check_sums(spec.backbone, inputs.image_size)
    params = list(_params(model))
    return ModelFacts(
        backbone=f"{spec.backbone.kind}/{spec.backbone.name}",
        groups=tuple(_facts(group, params, cost) for group in model.backbone.depth_groups),
        heads=tuple(_facts(f"heads.{label}", params, cost) for label in model.heads),
        feature_dim=model.backbone.feature_dim,
        image_size=size,
        mean=per_channel(inputs.mean, channels),
        std=per_channel(inputs.std, channels),
        weights=weights_in_words(spec.backbone, channels=channels),
        pretrained=spec.backbone.weights != "none",
    )


def _facts(part: str, params: list[tuple[str, ParamFacts]], cost: _Cost) -> GroupFacts:
    return GroupFacts(
        name=part.removeprefix("heads."),
        params=tuple(param for owner, param in params if owner == part),
        activation_bytes_per_row=cost.numbers[part] * _BYTES_PER_FLOAT,
        flops_per_row=cost.multiply_adds[part],
        output_shape=cost.shapes.get(part, ()),
        map_size=_map_size(cost.shapes.get(part, ())) or cost.map_sizes.get(part, 0),
    )


def _params(model: FineTuneModel) -> Iterator[tuple[str, ParamFacts]]:
    """Yield every parameter with the part of the model that owns it: a group or `heads.label`."""
    norms = {
        id(param)
        for module in model.modules()
        if isinstance(module, model.backbone.layout.norm_types)
        for param in module.parameters(recurse=False)
    }
    for name, param in model.named_parameters():
        kind: ParamKind = "weight" if param.ndim > 1 else "bias"
        kind = "norm" if id(param) in norms else kind
        yield _owner(model, name), ParamFacts(name=name, size=param.numel(), kind=kind)


def _owner(model: FineTuneModel, name: str) -> str:
    if name.startswith(_BACKBONE):
        return model.backbone.group_of(name.removeprefix(_BACKBONE))
    return ".".join(name.split(".")[:2])


def _parts(model: FineTuneModel) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module that lies in one part of the model, with that part."""
    for group in model.backbone.depth_groups:
        for largest in model.backbone.modules_of(group):
            yield from ((group, module) for module in largest.modules())
    for label, head in model.heads.items():
        yield from ((f"heads.{label}", module) for module in head.modules())


def _measure(model: FineTuneModel, images: Tensor, advice: str, dropped: Sequence[str]) -> _Cost:
    """Run one row, [1, C, H, W], through `model` on the meta device, counting."""
    cost = _Cost()
    for part, module in _parts(model):
        if is_leaf(module) or next(module.parameters(recurse=False), None) is not None:
            _count(module, part, cost)
    try:
        features = _through(model, images, cost)
    except (RuntimeError, AssertionError, ValueError) as error:
        height, width = images.shape[2:]
        what = f"the backbone cannot take images of {height} x {width} pixels: {error}"
        raise ModelError(Problem("data.image_size", what, advice)) from error
    except (TypeError, AttributeError) as error:
        if not dropped:
            raise
        # What was left out is called in another way than with one tensor.
        raise cannot_go(dropped, f"the network does not run: {error}") from error
    _check_shape(features, (1, model.backbone.feature_dim), dropped)
    for head in model.heads.values():
        head(features)
    return cost


def _check_shape(features: Tensor, expected: tuple[int, int], dropped: Sequence[str]) -> None:
    if features.shape == expected:
        return
    what = f"the backbone gives {list(features.shape)} for one image, expected {list(expected)}"
    if dropped:
        raise cannot_go(dropped, what)
    raise ModelError(Problem("model.backbone.name", what, "choose another backbone"))


def _through(model: FineTuneModel, images: Tensor, cost: _Cost) -> Tensor:
    """Return the features; note the shape of what each group makes."""
    backbone, passed = model.backbone, images
    for cut, group in enumerate(backbone.depth_groups):
        if backbone.can_be_cut(cut + 1):
            passed = backbone.between(passed, 0 if backbone.stages is None else cut, cut + 1)
            cost.shapes[group] = tuple(passed.shape[1:])
    return passed


def _count(module: nn.Module, part: str, cost: _Cost) -> None:
    """Have `module` add to `cost` what it makes. One that gives back its input makes nothing."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        made = output[0] if isinstance(output, tuple) else output
        if not isinstance(made, Tensor) or (args and made is args[0]):
            return
        if not made.numel():
            raise ValueError(f"nothing of them is left in {part}")
        if size := _map_made_by(module, made):
            cost.map_sizes[part] = size
        cost.numbers[part] += made.numel() * (_PER_ATTENTION if _attends(module) else 1)
        cost.multiply_adds[part] += made.numel() * _terms_per_number(module)

    module.register_forward_hook(hook)


def _map_made_by(module: nn.Module, made: Tensor) -> int:
    """Return the height of the map that a layer made; what is pooled to one pixel is none."""
    if next(module.parameters(recurse=False), None) is None:
        return 0
    sees_one_pixel = not isinstance(module, nn.Conv2d) or max(module.kernel_size) == 1
    size = _map_size(made.shape[1:])
    return 0 if size == 1 and sees_one_pixel else size


def _map_size(shape: Sequence[int]) -> int:
    """Return the height of a square map, [C, H, W] or as in Swin [H, W, C]; else 0."""
    match list(shape):
        case [_, height, width] if height == width:
            return height
        case [height, width, _] if height == width:
            return height
        case _:
            return 0


def _attends(module: nn.Module) -> bool:
    """Return whether `module` attends by one function, so that its linear layers never run."""
    return isinstance(module, (nn.MultiheadAttention, ShiftedWindowAttention))


def _terms_per_number(module: nn.Module) -> int:
    """Return how many products are summed for each number of the module's output."""
    match module:
        case nn.Conv2d():
            return module.in_channels // module.groups * math.prod(module.kernel_size)
        case nn.Linear():
            return module.in_features
        case nn.MultiheadAttention():
            return _LAYERS_PER_ATTENTION * int(module.embed_dim)
        case ShiftedWindowAttention():
            return _LAYERS_PER_ATTENTION * int(module.proj.in_features)
        case _:
            return 0
