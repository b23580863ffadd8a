"""Names of metrics that steer a run."""

import pytest

from rayft.errors import SpecError
from rayft.metrics import METRICS, check_metric

EVERY = "metrics are " + ", ".join(f"validation/{name}" for name in METRICS)


def test_every_metric_has_a_direction() -> None:
    found = {name: check_metric(f"validation/{name}", setting="best_metric") for name in METRICS}

    assert found == METRICS
    assert found["loss"] == found["ece"] == "min"
    assert found["macro_f1"] == "max"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "validation/macro_f2",
            "best_metric: there is no metric 'validation/macro_f2'\n"
            f"  fix: did you mean validation/macro_f1 or validation/macro_recall? {EVERY}",
        ),
        (
            "accuracy",
            "best_metric: there is no metric 'accuracy'\n"
            "  fix: did you mean validation/accuracy or validation/top5_accuracy? " + EVERY,
        ),
        (
            "test/loss",
            "best_metric: 'test/loss' is not of the validation split, and only that one may steer "
            f"a run\n  fix: did you mean validation/loss? {EVERY}",
        ),
        (
            "validation/zzz",
            f"best_metric: there is no metric 'validation/zzz'\n  fix: use one of these; {EVERY}",
        ),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_metric(name, setting="best_metric")

    assert str(caught.value) == message


def test_top5_accuracy_needs_more_than_five_classes() -> None:
    assert check_metric("validation/top5_accuracy", setting="best_metric", num_classes=6) == "max"
    with pytest.raises(SpecError, match="is 1 for every model with 5 classes"):
        check_metric("validation/top5_accuracy", setting="best_metric", num_classes=5)
