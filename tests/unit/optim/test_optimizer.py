from typing import Any

import pytest
import torch
from torch import nn

from rayft.optim.ema import WeightAverage
from rayft.optim.optimizer import (
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    set_learning_rates,
)
from rayft.plan.ledger import GroupRule, Ledger, ParamRule
from rayft.spec.training import SGD, AdamW

SPECS: list[Any] = [AdamW(kind="adamw"), SGD(kind="sgd", momentum=0.9)]


def model() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"low": nn.Linear(4, 4), "high": nn.Linear(4, 4)})


def ledger(trained: dict[str, float]) -> Ledger:
    rules = [
        ParamRule(
            name=f"{group}.{kind}",
            group=group,
            trains=group in trained,
            lr=trained.get(group, 0.0),
            weight_decay=0.1 if kind == "weight" and group in trained else 0.0,
        )
        for group in ("low", "high")
        for kind in ("weight", "bias")
    ]
    groups = [
        GroupRule(name=g, num_params=20, trains=g in trained, lr=trained.get(g, 0.0))
        for g in ("low", "high")
    ]
    return Ledger(groups=tuple(groups), params=tuple(rules))


def step(net: nn.ModuleDict, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
    net["high"](net["low"](x)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_every_trained_parameter_has_its_rate_and_decay_and_no_other_is_there() -> None:
    net = model()

    optimizer = make_optimizer(SPECS[0], net, ledger({"low": 0.1, "high": 0.2}), anchors={})

    found = {
        name: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["names"]
    }
    assert found == {
        "low.weight": (0.1, 0.1),
        "low.bias": (0.1, 0.0),
        "high.weight": (0.2, 0.1),
        "high.bias": (0.2, 0.0),
    }


def test_rates_are_set_from_the_peak_each_time() -> None:
    optimizer = make_optimizer(SPECS[0], model(), ledger({"high": 0.2}), anchors={})

    set_learning_rates(optimizer, 0.5)
    set_learning_rates(optimizer, 0.25)

    assert {group["lr"] for group in optimizer.param_groups} == {0.05}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_saved_state_goes_on_bit_for_bit(spec: Any) -> None:
    net, resumed = model(), model()
    rules = ledger({"low": 0.01, "high": 0.02})
    optimizer = make_optimizer(spec, net, rules, anchors={})
    for seed in range(3):
        step(net, optimizer, seed)
    saved = {name: value.clone() for name, value in optimizer_state(optimizer).items()}
    resumed.load_state_dict(net.state_dict())
    again = make_optimizer(spec, resumed, rules, anchors={})
    load_optimizer_state(again, saved)

    for seed in range(3, 6):
        step(net, optimizer, seed)
        step(resumed, again, seed)

    assert all(
        torch.equal(a, b) for a, b in zip(net.parameters(), resumed.parameters(), strict=True)
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_at_a_thaw_parameters_that_go_on_keep_their_state_and_new_ones_start_empty(
    spec: Any,
) -> None:
    net = model()
    first = make_optimizer(spec, net, ledger({"high": 0.02}), anchors={})
    step(net, first, 0)

    second = make_optimizer(spec, net, ledger({"low": 0.01, "high": 0.02}), anchors={})
    load_optimizer_state(second, optimizer_state(first))

    names = {name.partition("|")[0] for name in optimizer_state(second)}
    assert names == {"high.weight", "high.bias"}
    for name, value in optimizer_state(second).items():
        assert torch.equal(value, optimizer_state(first)[name])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_after_a_thaw_new_parameters_move_as_in_an_optimizer_of_their_own(spec: Any) -> None:
    """Both groups have one rate and no decay, so torch steps them together."""
    rates, names = {"low": 0.02, "high": 0.02}, ("low.bias", "high.bias")
    nets = model(), model()
    for net, groups in zip(nets, ([("low", "high")], [("low",), ("high",)]), strict=True):
        first = make_optimizer(spec, net, ledger({"high": 0.02}), anchors={})
        step(net, first, 0)
        thawed = [
            make_optimizer(spec, net, ledger({name: rates[name] for name in group}), anchors={})
            for group in groups
        ]
        for optimizer in thawed:
            load_optimizer_state(optimizer, optimizer_state(first))
        for seed in (1, 2):
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
            net["high"](net["low"](x)).square().sum().backward()
            for optimizer in thawed:
                optimizer.step()
            net.zero_grad()

    together, apart = (dict(net.named_parameters()) for net in nets)
    for name in names:
        assert torch.equal(together[name], apart[name])


def test_the_average_is_the_textbook_recursion() -> None:
    net = model()
    average = WeightAverage(net, decay=0.5)
    optimizer = make_optimizer(SPECS[1], net, ledger({"high": 0.02}), anchors={})
    for name, param in net.named_parameters():
        param.requires_grad_(name.startswith("high"))
    expected: torch.Tensor | None = None

    for n in range(1, 6):
        step(net, optimizer, n)
        average.update()
        value = net["high"].weight.detach().clone()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value

    state = average.state()
    assert set(state) == {"high.weight", "high.bias", "num_updates"}
    torch.testing.assert_close(state["high.weight"], expected)


def test_applied_averages_are_taken_back_bit_for_bit() -> None:
    net = model()
    average = WeightAverage(net, decay=0.9)
    average.update()
    with torch.no_grad():
        net["high"].weight.add_(1)
    current = net["high"].weight.detach().clone()

    with average.applied():
        assert torch.equal(net["high"].weight, current - 1) or torch.allclose(
            net["high"].weight, current - 1
        )

    assert torch.equal(net["high"].weight, current)


def test_statistics_are_averaged_with_the_weights_they_were_taken_of() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(net, decay=0.5)
    statistics = net[1].running_mean
    assert isinstance(statistics, torch.Tensor)
    expected: torch.Tensor | None = None

    for n in range(1, 6):
        net(torch.randn(8, 3))
        average.update()
        decay = min(0.5, (1 + n) / (10 + n))
        value = statistics.clone()
        expected = value if expected is None else decay * expected + (1 - decay) * value

    raw = statistics.clone()
    with average.applied():
        torch.testing.assert_close(statistics, expected)
    assert torch.equal(statistics, raw)
    assert "1.num_batches_tracked" not in average.state()
    net[1].eval()
    unmoved = WeightAverage(net, decay=0.5)
    unmoved.update()
    assert "1.running_mean" not in unmoved.state()
    taken_up = WeightAverage(net, decay=0.5)
    taken_up.load_state(average.state())
    assert torch.equal(taken_up.state()["1.running_mean"], average.state()["1.running_mean"])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_weights_decay_towards_their_anchors_and_the_others_towards_zero(spec: Any) -> None:
    net = model()
    before = {name: param.detach().clone() for name, param in net.named_parameters()}
    anchors = {"low.weight": torch.full((4, 4), 2.0), "low.bias": torch.full((4,), 2.0)}
    optimizer = make_optimizer(spec, net, ledger({"low": 0.5, "high": 0.5}), anchors=anchors)

    for param in net.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()

    after = dict(net.named_parameters())
    pull = 0.5 * 0.1  # rate times decay
    expected = before["low.weight"] + pull * (2.0 - before["low.weight"])
    assert torch.allclose(after["low.weight"], expected)
    assert torch.allclose(after["high.weight"], before["high.weight"] * (1 - pull))
    assert torch.equal(after["low.bias"], before["low.bias"])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_an_anchor_at_zero_is_the_usual_decay(spec: Any) -> None:
    nets = [model(), model()]
    anchors = {"low.weight": torch.zeros(4, 4), "high.weight": torch.zeros(4, 4)}
    rates = ledger({"low": 0.05, "high": 0.02})
    optimizers = [
        make_optimizer(spec, net, rates, anchors=some)
        for net, some in zip(nets, ({}, anchors), strict=True)
    ]

    for seed in range(3):
        for net, optimizer in zip(nets, optimizers, strict=True):
            step(net, optimizer, seed)

    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
