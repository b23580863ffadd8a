"""The optimizers of several models at once, on stacks of their parameters.

The arithmetic is that of torch's AdamW and SGD, with a rate and a decay for each model. A model
whose gradient is not finite can stay where it is while the others move.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never, final

import torch
from torch import Tensor

from rayft.spec.training import SGD, AdamW, OptimizerSpec


def state_keys(spec: OptimizerSpec) -> tuple[str, ...]:
    """Return the names under which torch's optimizer keeps the state of a parameter."""
    match spec:
        case AdamW():
            return ("step", "exp_avg", "exp_avg_sq")
        case SGD():
            return ("momentum_buffer",) if spec.momentum else ()
        case _:
            assert_never(spec)


@dataclass(kw_only=True)
class StackedParam:
    """One parameter of K members."""

    value: Tensor
    """[K, ...], a leaf that requires gradients."""
    state: dict[str, Tensor]
    """By the names of `state_keys`: `step` [K], the number of steps taken; moments [K, ...]."""
    peak_rates: Sequence[float]
    """Learning rate of each member at the peak of its schedule."""
    decays: Sequence[float]
    """Weight decay of each member."""

    def __post_init__(self) -> None:
        # Held here too: a number on a device would have to be waited for.
        self.steps = (
            [int(step) for step in self.state["step"].tolist()] if "step" in self.state else []
        )

    def of_members(self, numbers: Sequence[float]) -> Tensor:
        """Return a number for each member as [K, 1, ...], to be multiplied with the value."""
        shape = (len(numbers), *(1 for _ in self.value.shape[1:]))
        return torch.tensor(numbers, device=self.value.device).view(shape)


@final
class StackedOptimizer:
    """Moves the stacked parameters of K members.

    Args:
        spec: what the members have in common: all but weight decay.
        params: their parameters.
    """

    def __init__(self, spec: OptimizerSpec, params: Sequence[StackedParam]) -> None:
        self._spec = spec
        self.params = params

    @torch.no_grad()
    def gradient_norms(self) -> Tensor:
        """Return the norm [K] of each member's gradient over all of its parameters."""
        norms = [
            torch.linalg.vector_norm(_gradient(param).flatten(1), dim=1) for param in self.params
        ]
        whole: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        return whole

    @torch.no_grad()
    def clip(self, norms: Tensor, most: float) -> None:
        """Scale each member's gradient of norm `norms` [K] down to a norm of at most `most`."""
        shares = (most / (norms + 1e-6)).clamp(max=1.0)
        for param in self.params:
            gradient = _gradient(param)
            gradient.mul_(shares.view(-1, *(1 for _ in gradient.shape[1:])))

    @torch.no_grad()
    def step(self, factors: Sequence[float], *, moves: Sequence[bool]) -> None:
        """Take one step.

        Args:
            factors: share of each member's peak rate.
            moves: whether each member moves; the others keep their parameters and state.
        """
        tensors = [each for param in self.params for each in (param.value, *param.state.values())]
        stays = [place for place, moved in enumerate(moves) if not moved]
        before = [tensor[stays] for tensor in tensors] if stays else []
        for param in self.params:
            rates = [peak * factor for peak, factor in zip(param.peak_rates, factors, strict=True)]
            match self._spec:
                case AdamW():
                    _move_adamw(self._spec, param, rates)
                case SGD():
                    _move_sgd(self._spec, param, rates)
                case _:
                    assert_never(self._spec)
            param.steps = [step + moved for step, moved in zip(param.steps, moves, strict=False)]
        for tensor, values in zip(tensors, before, strict=False):
            tensor[stays] = values

    def forget_gradients(self) -> None:
        """Begin the next step without gradients."""
        for param in self.params:
            param.value.grad = None


def _gradient(param: StackedParam) -> Tensor:
    assert param.value.grad is not None
    return param.value.grad


def _move_adamw(spec: AdamW, param: StackedParam, rates: Sequence[float]) -> None:
    gradient, (beta1, beta2) = _gradient(param), spec.betas
    mean, square = param.state["exp_avg"], param.state["exp_avg_sq"]
    param.state["step"].add_(1)
    if any(param.decays):
        pairs = zip(rates, param.decays, strict=True)
        param.value.mul_(param.of_members([1 - rate * decay for rate, decay in pairs]))
    mean.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    # In Python's floats: in float32 the first corrections would be off in their fifth digit.
    steps = [step + 1 for step in param.steps]
    sizes = [rate / (1 - beta1**step) for rate, step in zip(rates, steps, strict=True)]
    roots = [(1 - beta2**step) ** 0.5 for step in steps]
    divisor = square.sqrt().div_(param.of_members(roots)).add_(spec.eps)
    param.value.sub_((mean / divisor).mul_(param.of_members(sizes)))


def _move_sgd(spec: SGD, param: StackedParam, rates: Sequence[float]) -> None:
    gradient = _gradient(param)
    if any(param.decays):
        gradient = gradient + param.value * param.of_members(param.decays)
    if spec.momentum:
        velocity = param.state["momentum_buffer"]
        velocity.mul_(spec.momentum).add_(gradient)
        gradient = gradient + spec.momentum * velocity if spec.nesterov else velocity
    param.value.sub_(gradient * param.of_members(rates))
