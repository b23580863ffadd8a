"""From a feature map or tokens to features, in another way than the network's own."""

from dataclasses import replace
from functools import partial
from typing import Literal, assert_never, final

from torch import Tensor, nn

from rayft.errors import ModelError, Problem
from rayft.models.layout import Stage
from rayft.models.stages import Step, flatten, global_average, run_in_order, spatial_mean
from rayft.models.torchvision_attention import class_token

PoolKind = Literal["avg", "max", "avg_max"]


@final
class GlobalPool(nn.Module):
    """The mean, the maximum, or the mean of the two, over all places of a feature map."""

    def __init__(self, kind: PoolKind, axis: int, *, keep: bool = False) -> None:
        """Build the pooling.

        Args:
            kind: which.
            axis: of the channels: 1 in [B, C, H, W], -1 in [B, N, C] and [B, H, W, C].
            keep: whether height and width stay as axes of length 1.
        """
        super().__init__()
        self._kind = kind
        self._axis = axis
        self._keep = keep

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, C], or [B, C, 1, 1]."""
        last = images.ndim - 1
        places = tuple(range(2, images.ndim)) if self._axis == 1 else tuple(range(1, last))
        mean = images.mean(dim=places, keepdim=self._keep)
        most = images.amax(dim=places, keepdim=self._keep)
        match self._kind:
            case "avg":
                return mean
            case "max":
                return most
            case "avg_max":
                return (mean + most) / 2
            case _:
                assert_never(self._kind)


def replace_pooling(stage: Stage, kind: PoolKind) -> Stage:
    """Return the last stage of a network with another pooling in place of its own.

    Raises:
        ModelError: the network does not pool its last feature map to one place, or in a way that
            is not known here.
    """
    steps = _steps(stage)
    places = [place for place, step in enumerate(steps) if _is_pooling(step)]
    if len(places) != 1:
        raise no_pooling()
    old = steps[places[0]]
    axis = -1 if old is class_token else 1
    keep = old is not spatial_mean and old is not class_token
    pool = GlobalPool(kind, axis, keep=keep)
    changed: tuple[Step, ...] = (*steps[: places[0]], pool, *steps[places[0] + 1 :])
    return replace(stage, forward=partial(run_in_order, changed))


def no_pooling() -> ModelError:
    """Return the error for a network whose pooling cannot be replaced."""
    what = "the network does not end in one pooling of its last feature map"
    fix = "remove pool, or set cut_after to a depth group that gives a feature map"
    return ModelError(Problem("model.backbone.pool", what, fix))


def unpooled(stage: Stage) -> Stage:
    """Return a stage that gives its map where `stage` flattens it, or pools it before that."""
    steps = _steps(stage)
    if not steps or not (steps[-1] is flatten or isinstance(steps[-1], nn.Flatten)):
        return stage
    pools = any(map(_is_pooling, steps[-2:-1]))
    kept = steps[:-2] if pools else steps[:-1]
    return replace(stage, forward=partial(run_in_order, kept))


def _steps(stage: Stage) -> tuple[Step, ...]:
    forward = stage.forward
    if isinstance(forward, partial) and forward.func is run_in_order:
        return tuple(forward.args[0])
    return ()


def _is_pooling(step: Step) -> bool:
    if isinstance(step, nn.AdaptiveAvgPool2d):
        return step.output_size in {1, (1, 1)}
    return step is global_average or step is spatial_mean or step is class_token
