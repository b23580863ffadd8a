import math

import pytest

from rayft.engine.policies import BestCheckpoint, EarlyStopping, NonFinite
from rayft.errors import TrainingError
from rayft.spec.training import EarlyStoppingSpec


def losses(*values: float) -> list[dict[str, float]]:
    return [{"validation/loss": value} for value in values]


def test_a_phase_ends_after_patience_epochs_without_improvement() -> None:
    policy = EarlyStopping(EarlyStoppingSpec(metric="validation/loss", patience=2))

    verdicts = [policy.should_end_phase(m) for m in losses(3, 2, 2.5, 1, 1.5, 1.2)]

    assert verdicts == [False, False, False, False, False, True]


def test_a_small_change_is_no_improvement() -> None:
    policy = EarlyStopping(EarlyStoppingSpec(metric="validation/loss", patience=1, min_delta=0.1))

    assert [policy.should_end_phase(m) for m in losses(1, 0.95)] == [False, True]


def test_each_phase_starts_afresh() -> None:
    policy = EarlyStopping(EarlyStoppingSpec(metric="validation/loss", patience=1))
    policy.should_end_phase(losses(1)[0])

    policy.start_phase()

    assert not policy.should_end_phase(losses(5)[0])


def test_memory_survives_a_resume() -> None:
    spec = EarlyStoppingSpec(metric="validation/loss", patience=2)
    first, second = EarlyStopping(spec), EarlyStopping(spec)
    for metrics in losses(1, 2):
        first.should_end_phase(metrics)

    second.load_state(first.state())

    assert second.should_end_phase(losses(1.5)[0])


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
