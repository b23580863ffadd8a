"""What the losses of a range test say."""

import math
import random
from collections.abc import Callable, Sequence

import pytest

from rayft.plan.lr_range import (
    FIRST_RATE,
    LAST_RATE,
    LossCurve,
    explodes,
    peak_rate,
    range_phase,
    scaled_setting,
    suggest_rate,
)
from rayft.plan.run_plan import RunPlan

Planned = Callable[..., RunPlan]

NUM_STEPS = 100


def rate(step: int) -> float:
    return FIRST_RATE * (LAST_RATE / FIRST_RATE) ** (step / (NUM_STEPS - 1))


def curve(losses: Sequence[float], *, exploded: bool = True) -> LossCurve:
    rates = tuple(rate(step) for step in range(len(losses)))
    return LossCurve(rates=rates, losses=tuple(losses), exploded=exploded)


def valley(*, fall_at: float, lowest_at: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    """Return losses that fall from 2 around one rate and rise steeply beyond another."""
    losses, rng = [], random.Random(seed)
    for step in range(90):
        x = math.log10(rate(step))
        fall = 1 / (1 + math.exp(-4 * (x - math.log10(fall_at))))
        rise = 0.02 * 10 ** (2 * (x - math.log10(lowest_at)))
        losses.append(2 - fall + rise + rng.gauss(0, noise))
    return losses


def test_rates_rise_from_the_first_to_the_last_by_one_factor(planned: Planned) -> None:
    plan = planned()
    phase = plan.phases[1]

    rising = range_phase(phase, num_steps=NUM_STEPS, steps_per_epoch=plan.steps_per_epoch)

    rates = [rising.schedule.factor(step) * peak_rate(phase) for step in range(NUM_STEPS)]
    assert rates == pytest.approx([rate(step) for step in range(NUM_STEPS)])
    assert (rates[0], rates[-1]) == pytest.approx((1e-7, 10))
    assert (rising.num_steps, rising.num_epochs) == (100, 10)
    # The other groups keep their proportion to the fastest.
    assert rising.ledger == phase.ledger


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_steepest_fall_is_suggested(noise: float, seed: int) -> None:
    losses = valley(fall_at=1e-4, lowest_at=3e-2, noise=noise, seed=seed)

    found = suggest_rate(curve(losses))

    assert found is not None
    assert found.rate == found.steepest
    assert 0.2e-4 < found.steepest < 5e-4
    assert 5e-4 < found.lowest < 3e-1


def test_it_is_at_most_a_tenth_of_the_lowest() -> None:
    found = suggest_rate(curve(valley(fall_at=1e-3, lowest_at=2e-3)))

    assert found is not None
    assert found.rate == pytest.approx(found.lowest / 10)
    assert found.rate < found.steepest


def test_where_nothing_falls_nothing_is_suggested() -> None:
    flat = [2.0] * 60
    rising = [2 + 0.01 * step for step in range(60)]
    short = [2.0, 1.5, 1.0, 9.0]

    assert [suggest_rate(curve(losses)) for losses in (flat, rising, short)] == [None] * 3


def test_noise_alone_is_no_fall() -> None:
    rng = random.Random(1)
    curves = [curve([rng.gauss(2, 0.4) for _ in range(100)]) for _ in range(50)]

    assert sum(suggest_rate(one) is not None for one in curves) <= 1


def test_smoothing_keeps_a_straight_line_straight() -> None:
    losses = [3 - 0.02 * step for step in range(80)]

    assert curve(losses).smoothed == pytest.approx(losses)


def test_one_hard_batch_is_no_explosion_and_several_are() -> None:
    losses = [1.0, 0.9, 0.8, 0.8, 0.7, 0.7]

    assert not explodes([])
    assert not explodes([*losses, 6.0])
    assert explodes([*losses, 6.0, 7.0])
    assert not explodes([1.0, 0.2, 9.0])


def test_the_setting_multiplies_every_rate_but_not_the_decay() -> None:
    table = {"heads": 1e-3, "backbone": 3e-4, "decay": 0.75, "layer2..layer3": 1e-5}

    assert scaled_setting(1e-2, 0.3, where="phases.0.lr") == "phases.0.lr=0.003"
    assert scaled_setting(table, 0.5, where="phases.1.lr") == (
        "phases.1.lr={heads: 0.0005, backbone: 0.00015, decay: 0.75, layer2..layer3: 5e-06}"
    )


def test_the_setting_can_be_pasted_behind_a_spec() -> None:
    import yaml

    from rayft.spec.load import spec_from_data
    from tests.unit.plan.conftest import spec

    table = {"heads": 1e-3, "last 2": 3e-6, "decay": 0.5, "top 30%": 3e-6, "backbone": 1.0}
    setting = scaled_setting(table, 1 / 3, where="phases.1.lr")
    data = spec().model_dump(mode="json", by_alias=True)

    found = spec_from_data(data, [setting]).phases[1].lr

    assert yaml.safe_load(setting.partition("=")[2]).keys() == table.keys()
    assert isinstance(found, dict)
    assert found == pytest.approx(
        {key: v if key == "decay" else v / 3 for key, v in table.items()}, rel=0.05
    )
