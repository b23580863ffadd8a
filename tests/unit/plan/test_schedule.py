import pytest

from rayft.plan.schedule import make_schedule
from rayft.spec.training import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    ScheduleSpec,
)

ALL: list[ScheduleSpec] = [
    CosineSchedule(kind="cosine", warmup="10%"),
    LinearSchedule(kind="linear", warmup="10%"),
    ConstantSchedule(kind="constant", warmup="10 steps"),
    OneCycleSchedule(kind="one_cycle"),
]


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 100])
def test_rates_stay_within_the_peak_and_reach_it(spec: ScheduleSpec, num_steps: int) -> None:
    schedule = make_schedule(spec, num_steps=num_steps, steps_per_epoch=10)

    factors = [schedule.factor(step) for step in range(num_steps)]

    assert all(0 <= factor <= 1 for factor in factors)
    assert min(factors) > 0
    assert max(factors) == pytest.approx(1)


def test_cosine_falls_to_its_end_by_the_end_of_the_phase() -> None:
    spec = CosineSchedule(kind="cosine", warmup="10%", final_fraction=0.1)
    schedule = make_schedule(spec, num_steps=100, steps_per_epoch=10)

    rise = [schedule.factor(step) for step in range(10)]

    assert rise == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert schedule.factor(10) == pytest.approx(1)
    assert schedule.factor(100) == pytest.approx(0.1)
    assert 0.1 < schedule.factor(99) < 0.11
    assert schedule.factor(10 + 44) > 0.5 > schedule.factor(10 + 55)


def test_linear_is_half_way_in_the_middle() -> None:
    spec = LinearSchedule(kind="linear", warmup="0%")
    schedule = make_schedule(spec, num_steps=100, steps_per_epoch=10)

    assert schedule.factor(50) == pytest.approx(0.5)


def test_warm_up_may_be_given_in_epochs() -> None:
    spec = ConstantSchedule(kind="constant", warmup="2 epochs")
    schedule = make_schedule(spec, num_steps=100, steps_per_epoch=10)

    assert schedule.factor(19) < 1
    assert schedule.factor(20) == 1


def test_one_cycle_starts_and_ends_where_it_says() -> None:
    spec = OneCycleSchedule(kind="one_cycle", rise="50%", start_fraction=0.2, final_fraction=0.01)
    schedule = make_schedule(spec, num_steps=1000, steps_per_epoch=10)

    assert schedule.factor(0) == pytest.approx(0.2, abs=1e-4)
    assert schedule.factor(500) == pytest.approx(1)
    assert schedule.factor(1000) == pytest.approx(0.01)
