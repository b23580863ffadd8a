import math
import random
from collections.abc import Mapping, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayft.errors import SpecError
from rayft.plan.stopping import Direction, Rule, check_grace, to_stop
from rayft.plan.trials import Report
from rayft.spec.sweep import AshaScheduler, FifoScheduler, MedianScheduler

ACCURACY = "validation/accuracy"


Fifo = FifoScheduler
Asha = partial(AshaScheduler, kind="asha")
Median = partial(MedianScheduler, kind="median")


def at(
    phase: int, epoch: int, values: Mapping[int, float] | Sequence[float], metric: str = ACCURACY
) -> list[Report]:
    items = values.items() if isinstance(values, Mapping) else enumerate(values)
    return [
        Report(trial=trial, phase=phase, epoch=epoch, steps_done=0, metrics={metric: value})
        for trial, value in items
    ]


def stopped(
    rule: Rule,
    before: Sequence[Report],
    new: Sequence[Report],
    *,
    metric: str = ACCURACY,
    direction: Direction = "max",
) -> set[int]:
    return set(to_stop(rule, before, new=new, metric=metric, direction=direction))


def test_fifo_stops_nothing() -> None:
    assert stopped(Fifo(), [], at(0, 1, [0.1, 0.2, 0.3, math.nan])) == set()


def test_the_best_third_goes_on() -> None:
    new = at(0, 1, [0.1, 0.9, 0.2, 0.3, 0.8, 0.4])

    assert stopped(Asha(), [], new) == {0, 2, 3, 5}


def test_less_is_better_where_the_metric_says_so() -> None:
    new = at(0, 1, [0.1, 0.9, 0.2], "validation/loss")

    assert stopped(Asha(), [], new, metric="validation/loss", direction="min") == {1, 2}


@pytest.mark.parametrize(
    ("grace", "epochs"), [(1, {1, 3, 9}), (2, {2, 6, 18}), (4, {4, 12}), (20, {20})]
)
def test_rungs_are_powers_of_the_factor(grace: int, epochs: set[int]) -> None:
    values = [0.1, 0.2, 0.9]

    found = {
        epoch
        for epoch in range(1, 21)
        if stopped(Asha(grace=grace), [], at(1, epoch, values)) == {0, 1}
    }

    assert found == epochs


def test_a_rung_decides_once_enough_have_come_to_it() -> None:
    first, second, third = at(0, 1, [0.3]), at(0, 1, {1: 0.2}), at(0, 1, {2: 0.1})

    assert stopped(Asha(), [], first) == set()
    assert stopped(Asha(), first, second) == set()
    assert stopped(Asha(), first + second, third) == {2}


def test_a_late_trial_that_is_best_goes_on() -> None:
    assert stopped(Asha(), at(0, 1, [0.3, 0.2]), at(0, 1, {2: 0.4})) == set()


def test_what_equals_the_last_that_goes_on_goes_on_too() -> None:
    assert stopped(Asha(), [], at(0, 1, [0.5, 0.5, 0.5, 0.1])) == {3}


@pytest.mark.parametrize("rule", [Asha(), Median(min_trials=2)])
def test_no_trial_is_compared_across_an_unfreezing(rule: Rule) -> None:
    before = at(0, 1, [0.9, 0.9, 0.9]) + at(0, 2, [0.9, 0.9, 0.9]) + at(0, 3, [0.9, 0.9, 0.9])

    assert stopped(rule, before, at(1, 1, {3: 0.1})) == set()
    assert stopped(rule, before, at(0, 1, {3: 0.1})) == {3}


@pytest.mark.parametrize("rule", [Asha(), Median()])
@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_the_worst(rule: Rule, direction: Direction, value: float) -> None:
    new = at(0, 1, [0.1, 0.1, 0.1, value])

    assert stopped(rule, [], new, direction=direction) == {3}


@pytest.mark.parametrize("rule", [Asha(), Median()])
def test_a_report_without_the_metric_neither_counts_nor_stops(rule: Rule) -> None:
    without = at(0, 1, {7: 0.0, 8: 0.0, 9: 0.0}, "train/loss")

    assert stopped(rule, without, at(0, 1, {0: 0.5, 1: 0.1}) + without) == set()


def test_the_median_rule_compares_the_best_with_running_averages() -> None:
    # Averages up to epoch 2: 0.3, 0.4, 0.5; the median is 0.4.
    before = at(0, 1, [0.2, 0.3, 0.4, 0.41, 0.39]) + at(0, 2, [0.4, 0.5, 0.6])

    assert stopped(Median(), before, at(0, 2, {3: 0.1})) == set()
    assert stopped(Median(), before, at(0, 2, {4: 0.1})) == {4}


def test_the_median_rule_waits_for_its_grace_and_for_others() -> None:
    others = at(0, 1, [0.5, 0.5, 0.5])

    assert stopped(Median(grace=2), others, at(0, 1, {3: 0.1})) == set()
    assert stopped(Median(min_trials=4), others, at(0, 1, {3: 0.1})) == set()
    assert stopped(Median(), others, at(0, 1, {3: 0.1})) == {3}


def test_an_epoch_reported_twice_counts_once() -> None:
    once = at(0, 1, [0.3, 0.2])

    assert stopped(Asha(), once, once) == set()


NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf])
VALUES = st.dictionaries(st.integers(0, 30), NUMBERS, min_size=1, max_size=20)
RULES = st.sampled_from([Asha(), Asha(reduction_factor=2), Median(), Median(min_trials=2)])


@given(VALUES, RULES, st.sampled_from(["min", "max"]), st.randoms(use_true_random=False))
def test_a_decision_knows_no_order(
    values: dict[int, float], rule: Rule, direction: Direction, shuffled: random.Random
) -> None:
    new = at(0, 1, values)
    other = list(new)
    shuffled.shuffle(other)

    assert stopped(rule, [], new, direction=direction) == stopped(
        rule, [], other, direction=direction
    )


@given(VALUES, RULES, st.sampled_from(["min", "max"]))
def test_the_best_is_never_stopped(
    values: dict[int, float], rule: Rule, direction: Direction
) -> None:
    new = at(0, 1, values)
    worst = math.inf if direction == "min" else -math.inf
    scores = {trial: value if math.isfinite(value) else worst for trial, value in values.items()}
    best = (min if direction == "min" else max)(scores.values())

    leaders = {trial for trial, score in scores.items() if score == best}
    assert not leaders & stopped(rule, [], new, direction=direction)


@pytest.mark.parametrize("rule", [Asha(grace=4), Median(grace=4)])
@pytest.mark.parametrize("epochs", [[4], [2, 4], [1, 3, 2]])
def test_a_grace_that_leaves_nothing_to_stop_is_refused(rule: Rule, epochs: list[int]) -> None:
    with pytest.raises(SpecError) as caught:
        check_grace(rule, epochs)

    assert caught.value.problems[0].where == "scheduler.grace"
    assert caught.value.problems[0].fix == "set it to 3 or less"


@pytest.mark.parametrize(
    ("rule", "epochs"), [(Asha(grace=4), [5]), (Median(grace=4), [4, 1]), (Fifo(), [1])]
)
def test_a_grace_that_leaves_something_to_stop_is_taken(rule: Rule, epochs: list[int]) -> None:
    check_grace(rule, epochs)


def test_a_run_of_one_epoch_needs_no_scheduler() -> None:
    with pytest.raises(SpecError) as caught:
        check_grace(Asha(), [1])

    assert caught.value.problems[0].fix == "remove the scheduler"
