"""What each row says: its loss, its prediction, its confidence.

Legend: N rows, C classes. Scores are taken in blocks of rows, so that float64 copies stay small
however large the split is. numpy adds up each row by itself and on one thread, so neither the
blocks nor the machine's number of cores can change a bit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayft.errors import Problem, TrainingError

_BLOCK_VALUES = 1 << 20
"""Scores in one block: 8 MiB as float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResults:
    """One value for each row, in the order of row ids, all [N]."""

    losses: NDArray[np.float64]
    """Cross entropy in nats."""
    predictions: NDArray[np.int64]
    """Class of the highest score; of equal scores the first."""
    confidences: NDArray[np.float64]
    """Probability of the prediction."""
    target_ranks: NDArray[np.int64]
    """Classes that come before the target; 0 is a hit."""
    log_totals: NDArray[np.float64]
    """Logarithm of the sum of exponentials: score minus this is a log probability."""


def score_rows(
    targets: NDArray[np.int64],
    scores: NDArray[np.floating],
    row_ids: NDArray[np.int64],
    order: NDArray[np.int64],
) -> RowResults:
    """Work out every row by itself.

    Args:
        targets: class of each row, [N], as given.
        scores: unnormalised logits, [N, C], as given.
        row_ids: [N], as given; named in errors.
        order: places of the rows in the order of their ids, [N].

    Raises:
        TrainingError: a score is not finite.
    """
    n, c = scores.shape
    losses, confidences, log_totals = (np.empty(n, np.float64) for _ in range(3))
    predictions, ranks = (np.empty(n, np.int64) for _ in range(2))
    for first in range(0, n, max(1, _BLOCK_VALUES // c)):
        part = slice(first, first + max(1, _BLOCK_VALUES // c))
        block = scores[order[part]].astype(np.float64)
        _refuse_non_finite(block, row_ids[order[part]])
        predicted = block.argmax(axis=1)
        highest = np.take_along_axis(block, predicted[:, None], axis=1)
        # The largest exponent is 0: nothing overflows, and no loss can come out below 0.
        totals = np.exp(block - highest).sum(axis=1)
        log_sums = np.log(totals)
        target = targets[order[part], None]
        own = np.take_along_axis(block, target, axis=1)
        losses[part] = (highest - own)[:, 0] + log_sums
        log_totals[part] = highest[:, 0] + log_sums
        confidences[part] = 1.0 / totals
        predictions[part] = predicted
        ranks[part] = _rank(block, own, target)
    return RowResults(
        losses=losses,
        predictions=predictions,
        confidences=confidences,
        target_ranks=ranks,
        log_totals=log_totals,
    )


def _rank(
    block: NDArray[np.float64], own: NDArray[np.float64], target: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the classes before the target; equal scores stand in the order of classes."""
    earlier = (block == own) & (np.arange(block.shape[1]) < target)
    before: NDArray[np.int64] = ((block > own) | earlier).sum(axis=1, dtype=np.int64)
    return before


def _refuse_non_finite(block: NDArray[np.float64], row_ids: NDArray[np.int64]) -> None:
    bad = ~np.isfinite(block).all(axis=1)
    if not bad.any():
        return
    row = int(bad.argmax())
    found = block[row][~np.isfinite(block[row])][0]
    raise TrainingError(
        Problem(
            f"scores of row {int(row_ids[row])}",
            f"expected finite numbers, found {found}: the model has diverged, so no metric of it "
            "means anything",
            "go on from an earlier checkpoint with a lower lr, or use precision: fp32",
        )
    )
