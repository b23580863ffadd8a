"""A stack of members moves as torch's own optimizers move each of them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rayft.optim.stacked import StackedOptimizer, StackedParam, state_keys
from rayft.spec.training import SGD, AdamW

SPECS: list[Any] = [
    AdamW(kind="adamw"),
    AdamW(kind="adamw", betas=(0.8, 0.99), eps=1e-3),
    SGD(kind="sgd", momentum=0.9),
    SGD(kind="sgd", momentum=0.9, nesterov=True),
    SGD(kind="sgd", momentum=0.0),
]
RATES, DECAYS = [0.1, 0.003, 0.02], [0.5, 0.0, 0.1]


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stacked(spec: Any, count: int = 3) -> StackedOptimizer:
    params = []
    for place, shape in enumerate([(4, 2), (5,)]):
        value = numbers(place, count, *shape).requires_grad_()
        state = {
            key: torch.zeros(count) if key == "step" else torch.zeros(count, *shape)
            for key in state_keys(spec)
        }
        decays = DECAYS if place == 0 else [0.0] * count
        params.append(StackedParam(value=value, state=state, peak_rates=RATES, decays=decays))
    return StackedOptimizer(spec, params)


def torch_optimizer(spec: Any, values: list[Tensor], member: int) -> torch.optim.Optimizer:
    groups = [
        {"params": [values[0]], "lr": RATES[member], "weight_decay": DECAYS[member]},
        {"params": [values[1]], "lr": RATES[member], "weight_decay": 0.0},
    ]
    if isinstance(spec, AdamW):
        return torch.optim.AdamW(groups, betas=spec.betas, eps=spec.eps, fused=True)
    return torch.optim.SGD(groups, momentum=spec.momentum, nesterov=spec.nesterov, fused=True)


def give_gradients(optimizer: StackedOptimizer, seed: int) -> None:
    for place, param in enumerate(optimizer.params):
        param.value.grad = numbers(100 * seed + place, *param.value.shape)


@pytest.mark.parametrize("spec", SPECS)
def test_each_member_moves_as_alone(spec: Any) -> None:
    optimizer = stacked(spec)
    values = [[p.value.detach()[m].clone() for p in optimizer.params] for m in range(3)]
    alone = [torch_optimizer(spec, each, member) for member, each in enumerate(values)]

    for seed in range(1, 9):
        give_gradients(optimizer, seed)
        for member, (own, each) in enumerate(zip(alone, values, strict=True)):
            for value, param in zip(each, optimizer.params, strict=True):
                assert param.value.grad is not None
                value.grad = param.value.grad[member].clone()
            for group in own.param_groups:
                group["lr"] = RATES[member] * (0.5 + 0.1 * seed)
            own.step()
        optimizer.step([0.5 + 0.1 * seed] * 3, moves=[True] * 3)

    for member, (own, each) in enumerate(zip(alone, values, strict=True)):
        for value, param in zip(each, optimizer.params, strict=True):
            torch.testing.assert_close(param.value.detach()[member], value, atol=1e-6, rtol=1e-5)
            for key, held in param.state.items():
                torch.testing.assert_close(held[member], own.state[value][key])


@pytest.mark.parametrize("spec", SPECS)
def test_a_member_that_stays_keeps_every_bit_and_touches_no_other(spec: Any) -> None:
    all_move, one_stays = stacked(spec), stacked(spec)
    for optimizer in (all_move, one_stays):
        give_gradients(optimizer, 1)
        optimizer.step([1.0] * 3, moves=[True] * 3)
        give_gradients(optimizer, 2)
    before = [t[1].clone() for p in one_stays.params for t in (p.value, *p.state.values())]
    for param in one_stays.params:
        assert param.value.grad is not None
        param.value.grad[1] = float("nan")

    all_move.step([1.0] * 3, moves=[True] * 3)
    one_stays.step([1.0] * 3, moves=[True, False, True])

    after = [t[1] for p in one_stays.params for t in (p.value, *p.state.values())]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for moved, kept in zip(all_move.params, one_stays.params, strict=True):
        assert torch.equal(moved.value[[0, 2]], kept.value[[0, 2]])
        assert [steps - 1 for steps in moved.steps[1:2]] == kept.steps[1:2]


def test_norms_and_clipping_are_those_of_each_member() -> None:
    optimizer = stacked(SPECS[0])
    give_gradients(optimizer, 3)
    gradients = [
        [p.value.grad[m].clone() for p in optimizer.params if p.value.grad is not None]
        for m in range(3)
    ]

    norms = optimizer.gradient_norms()
    optimizer.clip(norms, 2.0)

    for member, own in enumerate(gradients):
        norm = torch.nn.utils.get_total_norm(own)
        assert float(norms[member]) == pytest.approx(float(norm))
        values = [torch.zeros_like(gradient).requires_grad_() for gradient in own]
        for value, gradient in zip(values, own, strict=True):
            value.grad = gradient
        torch.nn.utils.clip_grads_with_norm_(values, 2.0, norm)
        for value, param in zip(values, optimizer.params, strict=True):
            assert param.value.grad is not None
            torch.testing.assert_close(param.value.grad[member], value.grad)
