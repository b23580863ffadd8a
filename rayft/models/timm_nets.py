"""Networks of the `timm` library, and how each is laid out in depth.

Groups are timm's own: `net.group_matcher(coarse=True)`. rayft gives them readable names: `stem`,
then `block0`, `block1` ... and `head` for what timm's matcher leaves unmatched at the end, such
as a last norm. The classifier is not built (`num_classes=0`). Where the forward pass is known to
be a plain chain, the stages are declared, in `timm_stages`; for all others `make_stages` is None.
"""

import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import timm
from timm.layers import (
    DropPath,
    FrozenBatchNormAct2d,
    PatchEmbed,
    RmsNorm,
    RmsNorm2d,
    SelectAdaptivePool2d,
    SimpleNorm,
    SimpleNorm2d,
)
from timm.layers.format import get_spatial_dim
from timm.models import get_pretrained_cfg, group_parameters
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from rayft.errors import ModelError, Problem
from rayft.models.layout import (
    TORCH_NORMS,
    Layout,
    groups_by_stage,
    leaf_names,
    tensor_names,
)
from rayft.models.names import refused_size, unknown_name
from rayft.models.pooling import no_pooling
from rayft.models.timm_stages import stage_maker
from rayft.spec.data import RGB
from rayft.spec.model import TimmBackbone

_NORMS = (FrozenBatchNormAct2d, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d)


def make_timm_net(spec: TimmBackbone, *, image_size: int | None, channels: int = RGB) -> nn.Module:
    """Build a network with random weights and without its classifier.

    Args:
        spec: names it.
        image_size: height and width of the images, for a network that is built for one size; None
            is the size that its default weights were trained with.
        channels: those of the images.

    Raises:
        ModelError: timm has no such model, or `name` carries a weights tag, or the model does
            not say how it is grouped, or cannot take images of that size.
    """
    name = spec.name
    _check_name(name)
    options: dict[str, float] = {} if channels == RGB else {"in_chans": channels}
    if image_size is not None and get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = image_size
    if spec.stochastic_depth is not None:
        options["drop_path_rate"] = spec.stochastic_depth
    try:
        with warnings.catch_warnings():
            # Images smaller than a patch make layers without weights.
            warnings.filterwarnings("error", "Initializing zero-element tensors")
            net: nn.Module = timm.create_model(name, num_classes=0, **options)
    except (TypeError, AssertionError, ValueError, UserWarning) as error:
        if "drop_path_rate" in str(error):
            raise _no_stochastic_depth(name) from error
        if "in_chans" in str(error):
            raise _only_rgb(name) from error
        raise refused_size(image_size, spec, str(error)) from error
    _check_grouped(net, name)
    _check_patches(net, image_size, spec)
    if spec.stochastic_depth and not any(isinstance(m, DropPath) for m in net.modules()):
        raise _no_stochastic_depth(name)
    if spec.pool != "own" and not spec.cut_after:
        _set_pool(net, spec)
    return net


def _check_patches(net: nn.Module, image_size: int | None, spec: TimmBackbone) -> None:
    """Check that no border of the images is left over, which patches would not see."""
    if image_size is None:
        return
    for module in net.modules():
        if not isinstance(module, PatchEmbed) or module.img_size != (image_size, image_size):
            continue
        height, width = module.patch_size
        if not module.dynamic_img_pad and (image_size % height or image_size % width):
            reason = f"patches of {height} x {width} pixels do not divide them"
            raise refused_size(image_size, spec, reason)


def _check_name(name: str) -> None:
    architecture, _, tag = name.partition(".")
    supported = timm.list_models()
    if architecture not in supported:
        raise unknown_name(name, library="timm", supported=supported)
    if tag:
        fix = f"write `name: {architecture}` and `weights: {tag}`"
        raise ModelError(Problem("model.backbone.name", f"`{name}` names weights as well", fix))


def _no_stochastic_depth(name: str) -> ModelError:
    fix = "remove it, or choose another backbone"
    what = f"timm's {name} has no stochastic depth"
    return ModelError(Problem("model.backbone.stochastic_depth", what, fix))


def _only_rgb(name: str) -> ModelError:
    fix = "set data.channels to 3, or choose another backbone"
    what = f"timm's {name} takes images of 3 channels only"
    return ModelError(Problem("model.backbone.name", what, fix))


def _set_pool(net: nn.Module, spec: TimmBackbone) -> None:
    """Let a network that ends in one of timm's own poolings pool as `spec` asks."""
    pools = [n for n, m in net.named_modules() if isinstance(m, SelectAdaptivePool2d)]
    if len(pools) != 1:
        raise no_pooling()
    old: Any = net.get_submodule(pools[0])
    kind = "avgmax" if spec.pool == "avg_max" else spec.pool
    # Where the pool inside can flatten by itself and knows its axes, it was told to, not `old`.
    flattens = getattr(old.pool, "flatten", not isinstance(old.flatten, nn.Identity))
    channels_last = getattr(old.pool, "dim", None) == get_spatial_dim("NHWC")
    new = SelectAdaptivePool2d(
        pool_type=kind, flatten=flattens, input_fmt="NHWC" if channels_last else "NCHW"
    )
    net.set_submodule(pools[0], new)


def _check_grouped(net: Any, name: str) -> None:  # noqa: ANN401  timm is untyped here
    try:
        net.group_matcher(coarse=True)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        what = f"timm's `{name}` does not declare coarse depth groups (group_matcher)"
        fix = "choose another backbone"
        raise ModelError(Problem("model.backbone.name", what, fix)) from error


def make_timm_layout(net: Any) -> Layout:  # noqa: ANN401
    """Return the layout of `net`, made by `make_timm_net`."""
    make_stages = stage_maker(net)
    if make_stages is not None:
        stages = make_stages(net)
        group_of = groups_by_stage(net, stages)
        depth_groups = [stage.name for stage in stages]
    else:
        group_of = _groups_by_timm(net)
        depth_groups = _in_depth_order(set(group_of.values()))
    return Layout(
        depth_groups=tuple(depth_groups),
        group_of=group_of,
        feature_dim=getattr(net, "head_hidden_size", None) or net.num_features,
        classifier=_classifier(net),
        make_stages=make_stages,
        pools_as_asked=True,
        channel_axis=-1 if isinstance(net, SwinTransformer) else 1,
        skipping=(DropPath, "drop_prob"),
        norm_types=TORCH_NORMS + _NORMS,
        translate=_translate,
    )


def _translate(net: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return `state` as timm's own loader of this class would load it."""
    rules = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if rules is None:
        return state
    try:
        with warnings.catch_warnings():
            # Of how it resamples, which is timm's affair.
            warnings.simplefilter("ignore", UserWarning)
            translated: Mapping[str, Tensor] = rules(dict(state), net)
    except (KeyError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        # The rules take for granted that the file is one of this network. Where it is not, what
        # differs is told by the names it has.
        return state
    return translated


def _classifier(net: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Return the modules timm declares as the classifier, one or several."""
    declared = net.pretrained_cfg.get("classifier") or ()
    return (declared,) if isinstance(declared, str) else tuple(declared)


class _Names:
    """Stands in for a module in `group_parameters`, which asks for `named_parameters` only."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def named_parameters(self) -> Iterator[tuple[str, None]]:
        """Yield every name, without a parameter."""
        return ((name, None) for name in self._names)


def _groups_by_timm(net: Any) -> dict[str, str]:  # noqa: ANN401
    """Return the group of every tensor and leaf module of `net` by timm's matcher.

    A place in timm's order that holds no tensor (an activation between two convolutions) joins
    the group before it, or the first.
    """
    matcher = net.group_matcher(coarse=True)
    tensors = list(tensor_names(net))
    leaves = list(leaf_names(net))
    place_of: dict[str, int] = group_parameters(_Names(tensors + leaves), matcher, reverse=True)
    places = sorted({place_of[name] for name in tensors if name in place_of})
    has_head = not any(
        _matches(matcher, name) for name in tensors if place_of.get(name) == places[-1]
    )
    labels = ["stem", *(f"block{i}" for i in range(len(places) - 1))]
    if has_head:
        labels[-1] = "head"
    label_at = dict(zip(places, labels, strict=True))
    return {
        name: label_at[max((p for p in places if p <= place), default=places[0])]
        for name, place in place_of.items()
    }


def _matches(matcher: Any, name: str) -> bool:  # noqa: ANN401
    """Return whether a pattern of timm's matcher, a dict or a function, knows `name`."""
    if not isinstance(matcher, dict):
        return True
    specs = chain.from_iterable(
        [(spec, None)] if isinstance(spec, str) else spec for spec in matcher.values() if spec
    )
    return any(re.match(pattern, name) for pattern, _ in specs)


def _in_depth_order(groups: set[str]) -> list[str]:
    """Return stem, blocks by number, head: those of them that there are."""
    blocks = [f"block{i}" for i in range(len(groups))]
    return [group for group in ("stem", *blocks, "head") if group in groups]
