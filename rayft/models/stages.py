"""What stages are put together from; nothing here knows a family of networks."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayft.models.layout import Stage

Step = Callable[[Tensor], Tensor]
"""A module, or a function without weights."""


def chain_stage(name: str, *steps: Step, tensors: tuple[str, ...] = ()) -> Stage:
    """Return a stage that applies `steps` one after the other and owns those that are modules.

    Args:
        name: the depth group.
        steps: from the stage's one input to its one output.
        tensors: parameters of the network itself, by name, that the steps use.
    """
    modules = tuple(step for step in steps if isinstance(step, nn.Module))
    return Stage(name, modules, partial(run_in_order, steps), tensors)


def run_in_order(steps: Iterable[Step], inputs: Tensor) -> Tensor:
    """Apply `steps` one after the other."""
    for step in steps:
        inputs = step(inputs)
    return inputs


def submodules(net: nn.Module, *names: str) -> tuple[nn.Module, ...]:
    """Return the submodules of `net` that have these dotted names."""
    return tuple(net.get_submodule(name) for name in names)


def split_before(modules: Iterable[nn.Module], kind: type[nn.Module]) -> list[list[nn.Module]]:
    """Cut a chain before every module of `kind`; what comes before the first is a part too."""
    parts: list[list[nn.Module]] = []
    for module in modules:
        if isinstance(module, kind) or not parts:
            parts.append([])
        parts[-1].append(module)
    return parts


def split_after(modules: Sequence[nn.Module], kind: type[nn.Module]) -> list[list[nn.Module]]:
    """Cut a chain after every module of `kind`; the chain ends with one of it."""
    turned = split_before(reversed(modules), kind)
    return [part[::-1] for part in reversed(turned)]


def flatten(images: Tensor) -> Tensor:
    """Return `images` [B, C, H, W] as [B, C * H * W]."""
    return torch.flatten(images, 1)


def global_average(images: Tensor) -> Tensor:
    """Return the mean over height and width of `images` [B, C, H, W] as [B, C, 1, 1]."""
    return F.adaptive_avg_pool2d(images, (1, 1))


def spatial_mean(images: Tensor) -> Tensor:
    """Return the mean over height and width of `images` [B, C, H, W] as [B, C].

    The same numbers as `global_average`, summed in another order.
    """
    return images.mean([2, 3])
