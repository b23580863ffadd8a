"""Every figure against scikit-learn, torchmetrics or numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from rayft.errors import TrainingError
from rayft.metrics import METRICS, ClassificationReport, classification_report


def evaluate(
    targets: ArrayLike,
    scores: ArrayLike,
    row_ids: ArrayLike | None = None,
    *,
    num_worst_rows: int = 20,
) -> ClassificationReport:
    scores = np.asarray(scores, np.float32)
    targets = np.asarray(targets, np.int64)
    ids = np.arange(len(targets)) if row_ids is None else np.asarray(row_ids)
    names = [f"c{number}" for number in range(scores.shape[1])]
    return classification_report(
        targets=targets, scores=scores, row_ids=ids, classes=names, num_worst_rows=num_worst_rows
    )


def draw(
    seed: int, n: int = 500, c: int = 8, *, absent: tuple[int, ...] = ()
) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    present = [number for number in range(c) if number not in absent]
    targets = rng.choice(present, n)
    scores = rng.normal(size=(n, c)).astype(np.float32)
    scores[np.arange(n), targets] += 1.0
    return targets, scores


def probabilities(scores: np.ndarray) -> np.ndarray:
    return torch.tensor(scores, dtype=torch.float64).softmax(1).numpy()


@pytest.mark.parametrize(("seed", "absent"), [(0, ()), (1, ()), (2, (3,)), (3, (0, 7))])
def test_figures_equal_those_of_scikit_learn(seed: int, absent: tuple[int, ...]) -> None:
    targets, scores = draw(seed, absent=absent)
    p, predicted = probabilities(scores), scores.argmax(1)
    present = sorted(set(targets.tolist()))
    macro = {"labels": present, "average": "macro", "zero_division": 0}

    found = evaluate(targets, scores).metrics()

    expected = {
        "loss": sk.log_loss(targets, p, labels=range(8)),
        "accuracy": sk.accuracy_score(targets, predicted),
        "top5_accuracy": sk.top_k_accuracy_score(targets, p, k=5, labels=range(8)),
        "macro_precision": sk.precision_score(targets, predicted, **macro),
        "macro_recall": sk.recall_score(targets, predicted, **macro),
        "macro_f1": sk.f1_score(targets, predicted, **macro),
        "balanced_accuracy": np.mean(
            sk.recall_score(targets, predicted, labels=present, average=None)
        ),
        "auroc": np.mean([sk.roc_auc_score(targets == c, p[:, c]) for c in present]),
        "ece": multiclass_calibration_error(
            torch.tensor(p), torch.tensor(targets), num_classes=8, n_bins=15, norm="l1"
        ).item(),
    }
    assert found == pytest.approx(expected, rel=1e-6)
    assert set(found) == set(METRICS)


def test_balanced_accuracy_and_auroc_equal_scikit_learns_own_where_every_class_occurs() -> None:
    targets, scores = draw(5)

    found = evaluate(targets, scores)

    assert found.balanced_accuracy == pytest.approx(
        sk.balanced_accuracy_score(targets, scores.argmax(1))
    )
    assert found.auroc == pytest.approx(
        sk.roc_auc_score(targets, probabilities(scores), multi_class="ovr", average="macro")
    )


def test_per_class_figures_and_confusion_equal_those_of_scikit_learn() -> None:
    targets, scores = draw(6, absent=(2,))
    predicted = scores.argmax(1)

    report = evaluate(targets, scores)

    expected = sk.precision_recall_fscore_support(
        targets, predicted, labels=range(8), zero_division=0
    )
    found = [(c.precision, c.recall, c.f1, c.support) for c in report.classes]
    assert np.allclose(np.array(found).T, np.array(expected), rtol=1e-12, atol=0)
    assert (report.confusion == sk.confusion_matrix(targets, predicted, labels=range(8))).all()
    assert report.absent_classes == ("c2",)


def test_three_rows_by_hand() -> None:
    log3 = math.log(3.0)  # two classes: probabilities 3/4 and 1/4

    report = evaluate([0, 1, 1], [[log3, 0], [log3, 0], [0, log3]], [30, 10, 20])

    assert report.loss == pytest.approx((2 * math.log(4 / 3) + math.log(4)) / 3)
    assert report.accuracy == pytest.approx(2 / 3)
    assert report.confusion.tolist() == [[1, 0], [1, 1]]
    assert [c.precision for c in report.classes] == [0.5, 1.0]
    assert [c.recall for c in report.classes] == [1.0, 0.5]
    assert report.macro_f1 == pytest.approx(2 / 3)
    assert report.balanced_accuracy == 0.75
    assert report.auroc == 0.75  # one of two pairs is right, the other a tie
    assert report.ece == pytest.approx(3 / 4 - 2 / 3)
    assert [row.row_id for row in report.worst_rows] == [10, 20, 30]
    assert report.worst_rows[0].target == "c1"
    assert report.worst_rows[0].predicted == "c0"
    assert report.worst_rows[0].target_probability == pytest.approx(1 / 4)


def test_calibration_error_by_hand() -> None:
    # Confidences 0.9 (right, wrong) and 0.7 (right): bins 14 and 11 of 15.
    scores = np.log([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3]])

    report = evaluate([0, 1, 0], scores)

    assert report.ece == pytest.approx(2 / 3 * abs(0.9 - 0.5) + 1 / 3 * abs(0.7 - 1), rel=1e-6)


def test_worst_rows_come_by_loss_then_by_row_id() -> None:
    report = evaluate([0, 0, 0, 0], [[0, 2], [0, 1], [0, 2], [0, 9]], [7, 5, 3, 4])

    assert [row.row_id for row in report.worst_rows] == [4, 3, 7, 5]
    assert len(evaluate([0, 0], [[0, 1], [0, 1]], num_worst_rows=1).worst_rows) == 1


def test_top5_accuracy_is_left_out_where_it_is_always_one() -> None:
    report = evaluate(*draw(7, c=5))

    assert report.top5_accuracy is None
    assert "top5_accuracy" not in report.metrics()


def test_equal_scores_are_ranked_in_the_order_of_classes() -> None:
    report = evaluate([0, 4, 5, 6], np.zeros((4, 7)))

    assert report.accuracy == 0.25
    assert report.top5_accuracy == 0.5


def test_a_split_of_one_class_has_no_auroc_and_still_is_valid_json() -> None:
    report = evaluate([1, 1], [[0, 1], [1, 0]])

    assert math.isnan(report.metrics()["auroc"])
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["metrics"]["auroc"] is None


def test_huge_scores_neither_overflow_nor_give_a_loss_below_zero() -> None:
    report = evaluate([0, 0], [[3e38, -3e38], [1e30, 1e30]])

    assert report.worst_rows[-1].loss == 0.0
    assert report.worst_rows[0].loss == pytest.approx(math.log(2))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_names_its_row(bad: float) -> None:
    with pytest.raises(TrainingError, match=rf"scores of row 12: expected finite .* {bad}"):
        evaluate([0, 1], [[0, 1], [bad, 1]], [11, 12])


@pytest.mark.parametrize(
    ("targets", "scores", "ids", "message"),
    [
        ([0, 1], [[0, 1], [1, 0]], [4, 4], "row 4 comes twice"),
        ([0, 2], [[0, 1], [1, 0]], [0, 1], "expected targets of 0 to 1, got 0 to 2"),
        ([0, -1], [[0, 1], [1, 0]], [0, 1], "got -1 to 0"),
        ([0], [[0, 1], [1, 0]], [0, 1], r"got \[1\], \[2, 2\] and \[2\]"),
        ([0, 1], [[0, 1], [1, 0]], [0.0, 1.0], "expected integer targets and row_ids"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    targets: ArrayLike, scores: ArrayLike, ids: ArrayLike, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(targets, scores, ids)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        evaluate([], np.empty((0, 3)))
