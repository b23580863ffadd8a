"""The optimizer of a phase, built from the ledger, and its state by parameter name."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from rayft.plan.ledger import Ledger
from rayft.spec.training import SGD, AdamW, OptimizerSpec


def make_optimizer(
    spec: OptimizerSpec, model: nn.Module, ledger: Ledger, *, anchors: Mapping[str, Tensor]
) -> torch.optim.Optimizer:
    """Build the optimizer over the parameters that train, one group for each rate and decay.

    Each group carries `names` (parameter names) and `peak_lr`, so that rates are set from the
    schedule and state is saved by name.

    Args:
        spec: the `optimizer:` section.
        model: the model whose parameters the ledger names.
        ledger: what trains in the phase.
        anchors: what weights decay to, by name, instead of zero.
    """
    params = dict(model.named_parameters())
    buckets: dict[tuple[float, float, bool], list[str]] = defaultdict(list)
    for rule in ledger.params:
        if rule.trains:
            is_anchored = rule.weight_decay > 0 and rule.name in anchors
            buckets[rule.lr, rule.weight_decay, is_anchored].append(rule.name)
    groups = [
        {
            "params": [params[name] for name in names],
            "names": names,
            "peak_lr": lr,
            "lr": lr,
            # torch's own decay knows zero only.
            "weight_decay": 0.0 if is_anchored else weight_decay,
            "anchor_decay": weight_decay,
            "anchors": [anchors[name] for name in names] if is_anchored else [],
        }
        for (lr, weight_decay, is_anchored), names in buckets.items()
    ]
    fused = all(param.device.type in {"cpu", "cuda"} for param in params.values())
    optimizer: torch.optim.Optimizer
    match spec:
        case AdamW():
            optimizer = torch.optim.AdamW(groups, betas=spec.betas, eps=spec.eps, fused=fused)
            optimizer.register_step_pre_hook(_pull_weights)
        case SGD():
            optimizer = torch.optim.SGD(
                groups, momentum=spec.momentum, nesterov=spec.nesterov, fused=fused
            )
            optimizer.register_step_pre_hook(_pull_gradients)
        case _:
            assert_never(spec)
    return optimizer


@torch.no_grad()
def _pull_weights(optimizer: torch.optim.Optimizer, *_: Any) -> None:  # noqa: ANN401
    """Decay towards the anchors as AdamW decays towards zero: beside the gradient."""
    for group in optimizer.param_groups:
        if group["anchors"]:
            torch._foreach_lerp_(
                group["params"], group["anchors"], group["lr"] * group["anchor_decay"]
            )


@torch.no_grad()
def _pull_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:  # noqa: ANN401
    """Decay towards the anchors as SGD decays towards zero: as a part of the gradient."""
    for group in optimizer.param_groups:
        for param, anchor in zip(group["params"], group["anchors"], strict=False):
            if param.grad is not None:
                param.grad.add_(param - anchor, alpha=group["anchor_decay"])


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its peak times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state as tensors named `PARAMETER|KEY`, empty before the first step."""
    return {
        f"{name}|{key}": value
        for group in optimizer.param_groups
        for name, param in zip(group["names"], group["params"], strict=True)
        for key, value in optimizer.state.get(param, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Take over the saved state of every parameter that trains; others start empty.

    This serves a resume and a thaw alike: parameters that go on keep their moments, new ones
    begin without, and those that froze are forgotten.
    """
    by_param: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in state.items():
        param_name, _, key = name.rpartition("|")
        by_param[param_name][key] = value
    for group in optimizer.param_groups:
        moves_on = any(name in by_param for name in group["names"])
        for name, param in zip(group["names"], group["params"], strict=True):
            if name in by_param:
                optimizer.state[param] = {
                    key: _place(key, value, param) for key, value in by_param[name].items()
                }
            elif moves_on and group.get("momentum"):
                # Fused SGD takes momentum of all of a group or of none; zeros are the same start.
                optimizer.state[param] = {"momentum_buffer": torch.zeros_like(param)}


def _place(key: str, value: Tensor, param: Tensor) -> Tensor:
    # A copy in any case: two optimizers must not write to one tensor.
    if key == "step":
        # Fused kernels on a GPU want the step counter beside the parameter.
        return value.detach().to(param.device, copy=True)
    moment = torch.empty_like(param, dtype=value.dtype)
    return moment.copy_(value)
