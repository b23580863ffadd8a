import math

import pytest

from rayft.engine.policies import BestCheckpoint, EarlyStopping, NonFinite, StopRule, stop_rules
from rayft.errors import SpecError, TrainingError
from tests.unit.plan.conftest import spec


def rule(patience: int, *, min_delta: float = 0.0, metric: str = "validation/loss") -> StopRule:
    return StopRule(
        metric=metric, patience=patience, min_delta=min_delta, setting="early_stopping.metric"
    )


def stopping(*rules: StopRule | None) -> EarlyStopping:
    policy = EarlyStopping(rules)
    policy.start_phase()
    return policy


def losses(*values: float) -> list[dict[str, float]]:
    return [{"validation/loss": value} for value in values]


def test_a_phase_ends_after_patience_epochs_without_improvement() -> None:
    policy = stopping(rule(2))

    verdicts = [policy.should_end_phase(m) for m in losses(3, 2, 2.5, 1, 1.5, 1.2)]

    assert verdicts == [False, False, False, False, False, True]


def test_a_small_change_is_no_improvement() -> None:
    policy = stopping(rule(1, min_delta=0.1))

    assert [policy.should_end_phase(m) for m in losses(1, 0.95)] == [False, True]


def test_each_phase_starts_afresh() -> None:
    policy = stopping(rule(1), rule(1))
    policy.should_end_phase(losses(1)[0])

    policy.start_phase()

    assert not policy.should_end_phase(losses(5)[0])


def test_memory_survives_a_resume() -> None:
    first, second = stopping(rule(2)), EarlyStopping((rule(2),))
    for metrics in losses(1, 2):
        first.should_end_phase(metrics)

    second.load_state(first.state())

    assert second.should_end_phase(losses(1.5)[0])


def test_each_phase_goes_by_its_own_rule() -> None:
    policy = stopping(rule(1), None, rule(2, metric="validation/accuracy"))

    ends = []
    for _ in range(3):
        found = [policy.should_end_phase({"validation/loss": 1.0, "validation/accuracy": 0.5})]
        found += [policy.should_end_phase({"validation/loss": 2.0, "validation/accuracy": 0.5})]
        found += [policy.should_end_phase({"validation/loss": 0.5, "validation/accuracy": 0.4})]
        ends.append(found)
        if len(ends) < 3:
            policy.start_phase()

    # By the loss after one epoch; never; by the accuracy after two.
    assert ends == [[False, True, False], [False, False, False], [False, False, True]]


def test_a_resumed_run_knows_whose_rule_it_goes_by() -> None:
    rules = (None, rule(1), None)
    first, second = stopping(*rules), EarlyStopping(rules)
    first.start_phase()
    first.should_end_phase(losses(1)[0])

    second.load_state(first.state())

    assert second.state() == first.state()
    assert second.should_end_phase(losses(2)[0])
    second.start_phase()
    assert not second.should_end_phase(losses(9)[0])


def test_until_goes_before_early_stopping() -> None:
    phases = [
        {"name": "a", "train": ["heads"], "for": "9 epochs", "lr": 1e-2},
        {
            "name": "b",
            "train": ["heads"],
            "for": "9 epochs",
            "until": {"plateau": "validation/macro_f1", "patience": 5, "min_delta": 0.01},
            "lr": 1e-2,
        },
    ]

    both = stop_rules(spec(phases=phases, early_stopping={"metric": "validation/loss"}))
    lone = stop_rules(spec(phases=phases))

    assert both[0] == rule(3)
    assert both[1] == StopRule(
        metric="validation/macro_f1", patience=5, min_delta=0.01, setting="phases.1.until.plateau"
    )
    assert lone == (None, both[1])


def test_an_unknown_metric_is_named_by_its_setting() -> None:
    with pytest.raises(SpecError, match=r"early_stopping\.metric"):
        EarlyStopping((None, rule(1, metric="validation/los")))


def test_the_best_checkpoint_follows_the_metric_and_not_the_order() -> None:
    best = BestCheckpoint("validation/accuracy")

    for name, value in (("a", 0.5), ("b", 0.9), ("c", 0.7), ("d", 0.9)):
        best.take(name, {"validation/accuracy": value})

    assert best.name == "b"


def test_of_equal_values_the_one_of_the_lower_loss_is_the_best() -> None:
    best = BestCheckpoint("validation/accuracy")

    for name, loss in (("a", 2.0), ("b", 0.7), ("c", 0.9)):
        best.take(name, {"validation/accuracy": 1.0, "validation/loss": loss})
    resumed = BestCheckpoint("validation/accuracy")
    resumed.load_state(best.state())

    assert best.name == "b"
    assert not resumed.take("d", {"validation/accuracy": 1.0, "validation/loss": 0.8})
    assert resumed.take("e", {"validation/accuracy": 1.0, "validation/loss": 0.6})


def test_without_a_metric_the_newest_is_the_best() -> None:
    best = BestCheckpoint(None)

    for name in "abc":
        best.take(name, {})

    assert best.name == "c"


def test_an_undefined_metric_never_is_the_best() -> None:
    best = BestCheckpoint("validation/auroc")

    assert not best.take("a", {"validation/auroc": math.nan})
    assert not best.take("b", {})
    assert best.take("c", {"validation/auroc": 0.5})


def test_three_steps_in_a_row_that_are_not_finite_end_the_run() -> None:
    policy = NonFinite()
    for finite in (False, False, True, False, False):
        policy.take(finite=finite, where="phase a, step 1", lr=0.1)

    with pytest.raises(TrainingError) as caught:
        policy.take(finite=False, where="phase a, step 6 of 9", lr=0.1)

    assert "phase a, step 6 of 9: the gradient of 3 steps in a row is not finite" in str(
        caught.value
    )
    assert policy.num_skipped == 5
