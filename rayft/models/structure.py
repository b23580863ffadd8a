"""Changing a network: cut it, leave layers out, put layers in, pool otherwise, smaller strides.

All of it works on the stages of the network, so that depth groups, freezing and a cut for the
frozen prefix go on as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import assert_never

import numpy as np
import torch
from torch import nn

from rayft.errors import ModelError, Problem
from rayft.models.inserted import ChannelDropout, ResidualAdapter
from rayft.models.layout import Layout, Official, Stage, groups_by_stage
from rayft.models.names import nearest
from rayft.models.pooling import GlobalPool, replace_pooling, unpooled
from rayft.models.removal import (
    check_division,
    check_groups_left,
    check_layers,
    cut_off,
    drop_layers,
    is_left_out,
)
from rayft.models.stages import run_in_order
from rayft.spec.model import Adapter, InsertedDropout, InsertSpec, StructuredBackbone

_WHERE = "model.backbone"
_MOVING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
Stages = tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What passes between two stages."""

    channels: int
    axis: int
    """Where the channels are: 1 in [B, C, H, W], -1 in tokens [B, N, C] and [B, H, W, C]."""
    is_map: bool
    """Whether it has height and width."""


def restructure(
    net: nn.Module,
    layout: Layout,
    spec: StructuredBackbone,
    outputs: Sequence[tuple[torch.Size, torch.Size]],
) -> Layout:
    """Change `net` in place as `spec` asks; return its layout.

    Args:
        net: the official network.
        layout: its layout.
        spec: what is to be changed.
        outputs: for each stage of the official network the shape of what it gives, and of the map
            that it may have pooled and flattened for that.

    Raises:
        ModelError: the network is no plain chain, a name is unknown, or a change cannot be made.
    """
    if layout.make_stages is None:
        what = "its forward pass is not known to be a plain chain, so its structure cannot change"
        fix = "remove cut_after, pool, drop, insert and strides, or choose another backbone"
        raise ModelError(Problem(f"{_WHERE}.name", what, fix))
    official = layout.make_stages(net)
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    _check_groups(spec, official)
    usual = _most_skipped(net, layout)
    removed = cut_off(net, official, spec.cut_after)
    removed += drop_layers(net, spec.drop, cut_after=spec.cut_after)
    _set_strides(net, spec)
    if spec.stochastic_depth:
        _spread_again(net, layout, usual)
    names = [stage.name for stage in official]
    for each in spec.insert:
        passed, _ = outputs[names.index(each.after)]
        net.add_module(_name(each), _make_inserted(each, _shape(passed, layout)))
    last = _shape(outputs[names.index(spec.cut_after)][1], layout) if spec.cut_after else None
    make_stages = partial(_changed_stages, layout, spec, last, removed)
    check_division(net, official, layout.make_stages, spec.drop)
    stages = make_stages(net)
    group_of = groups_by_stage(net, stages)
    check_groups_left(net, group_of, stages, spec.drop)
    return replace(
        layout,
        depth_groups=tuple(stage.name for stage in stages),
        group_of=group_of,
        feature_dim=last.channels if last else layout.feature_dim,
        classifier=(*layout.classifier, *removed),
        make_stages=make_stages,
        official=Official(shapes=shapes, feature_dim=layout.feature_dim),
        added=tuple(_name(each) for each in spec.insert),
    )


def _shape(output: torch.Size, layout: Layout) -> _Shape:
    is_map = len(output) == 4
    axis = layout.channel_axis if is_map else -1
    return _Shape(output[axis], axis, is_map)


def _check_groups(spec: StructuredBackbone, stages: Stages) -> None:
    """Check the names of depth groups, and that all that is asked for has an effect."""
    names = [stage.name for stage in stages]
    kept = names[: names.index(spec.cut_after) + 1] if spec.cut_after in names else names
    asked = [("cut_after", spec.cut_after)] if spec.cut_after else []
    asked += [(f"insert.{place}.after", each.after) for place, each in enumerate(spec.insert)]
    problems = [
        Problem(f"{_WHERE}.{where}", f"there is no depth group `{name}`", f"write {near}")
        for where, name in asked
        if name not in kept
        for near in [nearest(name, kept)]
    ]
    if spec.cut_after == names[-1]:
        what = f"`{names[-1]}` is the last depth group, so nothing is cut off"
        problems.append(Problem(f"{_WHERE}.cut_after", what, "remove it, or name one before it"))
    at_end = [each for each in spec.insert if each.after == kept[-1]]
    if at_end:
        what = f"`{kept[-1]}` is the last depth group: what follows it are the heads"
        problems.append(Problem(f"{_WHERE}.insert", what, "give the head hidden layers or dropout"))
    inserted = [_name(each) for each in spec.insert]
    twice = sorted({name for name in inserted if inserted.count(name) > 1})
    if twice:
        what = f"`{twice[0]}` is inserted twice"
        problems.append(Problem(f"{_WHERE}.insert", what, "remove one of them"))
    if problems:
        raise ModelError(*problems)


def _set_strides(net: nn.Module, spec: StructuredBackbone) -> None:
    """Give what moves by more, inside of the layers that are named, these strides."""
    check_layers(net, spec.strides, "strides", cut_after=spec.cut_after)
    problems = []
    for name, stride in spec.strides.items():
        larger = _moving_more(net.get_submodule(name), stride)
        if not larger:
            what = f"nothing in `{name}` has a stride of more than {stride}"
            elsewhere = list(_moving_more(net, stride))
            fix = f"write {nearest(name, elsewhere)}" if elsewhere else "remove it"
            problems.append(Problem(f"{_WHERE}.strides", what, fix))
        for layer in larger.values():
            layer.stride = (stride, stride)
    if problems:
        raise ModelError(*problems)


def _most_skipped(net: nn.Module, layout: Layout) -> float:
    kind, chance = layout.skipping
    layers = (module for module in net.modules() if isinstance(module, kind))
    # A layer that was emptied has no chance.
    return max((getattr(layer, chance, 0.0) for layer in layers), default=0.0)


def _spread_again(net: nn.Module, layout: Layout, usual: float) -> None:
    """Let the last residual block that is kept be skipped as often as the last one was."""
    kind, chance = layout.skipping
    most = _most_skipped(net, layout)
    if not most:
        what = "no block of what is kept can be skipped more often than never"
        raise ModelError(Problem(f"{_WHERE}.stochastic_depth", what, "remove it, or keep more"))
    for layer in net.modules():
        if isinstance(layer, kind) and hasattr(layer, chance):
            setattr(layer, chance, getattr(layer, chance) * (usual / most))


def _moving_more(
    module: nn.Module, stride: int
) -> dict[str, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d]:
    """Return by name the convolutions and poolings with a larger stride."""
    moving = {name: x for name, x in module.named_modules() if isinstance(x, _MOVING)}
    present = {name: layer for name, layer in moving.items() if not is_left_out(layer)}
    return {name: layer for name, layer in present.items() if np.max(layer.stride) > stride}


def _changed_stages(
    layout: Layout,
    spec: StructuredBackbone,
    last_map: _Shape | None,
    removed: Sequence[str],
    net: nn.Module,
) -> Stages:
    """Return the stages of the changed network."""
    assert layout.make_stages is not None
    stages = list(layout.make_stages(net))
    names = [stage.name for stage in stages]
    if spec.cut_after and last_map:
        stages = stages[: names.index(spec.cut_after) + 1]
        rest = tuple(net.get_submodule(name) for name in removed if name not in spec.drop)
        pool = GlobalPool("avg" if spec.pool == "own" else spec.pool, last_map.axis)
        last = unpooled(stages[-1])
        forward = partial(run_in_order, (last.forward, pool))
        stages[-1] = replace(last, modules=(*last.modules, *rest), forward=forward)
    elif spec.pool != "own" and not layout.pools_as_asked:
        stages[-1] = replace_pooling(stages[-1], spec.pool)
    for each in spec.insert:
        place = next(n for n, stage in enumerate(stages) if stage.name == each.after)
        module = net.get_submodule(_name(each))
        match each:
            case Adapter():
                stages.insert(place + 1, Stage(_name(each), (module,), module))
            case InsertedDropout():
                stage = stages[place]
                forward = partial(run_in_order, (stage.forward, module))
                modules = (*stage.modules, module)
                stages[place] = replace(stage, modules=modules, forward=forward)
            case _:
                assert_never(each)
    return tuple(stages)


def _name(inserted: InsertSpec) -> str:
    return f"{inserted.after}_{inserted.kind}"


def _make_inserted(spec: InsertSpec, shape: _Shape) -> nn.Module:
    match spec:
        case Adapter():
            return ResidualAdapter(shape.channels, spec.width, axis=shape.axis)
        case InsertedDropout():
            kind = ChannelDropout if shape.axis == -1 else nn.Dropout2d
            return (kind if shape.is_map else nn.Dropout)(spec.probability)
        case _:
            assert_never(spec)
