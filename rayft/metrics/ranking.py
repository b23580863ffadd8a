"""Area under the ROC curve of each class against the rest.

It is the share of (positive, negative) pairs in which the positive row has the higher probability,
ties counting half (Hanley & McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747; Mann &
Whitney's U). Pairs are counted in integers, so the order of rows cannot matter.
"""

import numpy as np
from numpy.typing import NDArray

EXACT_VALUES = 1 << 26
"""Scores (rows times classes) up to which every class is sorted; above, they are binned."""

_BLOCK_CLASSES = 16
"""Classes copied at once: a column of a row-major table is slow to read alone."""
_KEY_SHIFT = 15
_NUM_KEYS = 1 << 16


def class_aurocs(
    targets: NDArray[np.int64],
    scores: NDArray[np.floating],
    log_totals: NDArray[np.float64],
    *,
    exact_values: int = EXACT_VALUES,
) -> list[float | None]:
    """Return the AUROC of each class, None where it has no positive or no negative row.

    Rows are ranked by log probability in float64, which also tells apart probabilities that would
    round to 1. Above `exact_values` scores, log probabilities are rounded to 8 significant bits
    and rows of equal value count as ties: one pass instead of a sort.

    Args:
        targets: class of each row, [N].
        scores: unnormalised logits, [N, C].
        log_totals: logarithm of each row's sum of exponentials, [N].
        exact_values: largest N times C that is sorted.
    """
    n, c = scores.shape
    count_pairs = _pairs_by_sorting if n * c <= exact_values else _pairs_by_bins
    found: list[float | None] = []
    for first in range(0, c, _BLOCK_CLASSES):
        columns = np.ascontiguousarray(scores[:, first : first + _BLOCK_CLASSES].T)
        for number, column in enumerate(columns, start=first):
            positive = targets == number
            num_positive = int(np.count_nonzero(positive))
            pairs = num_positive * (n - num_positive)
            if pairs == 0:
                found.append(None)
                continue
            values = column.astype(np.float64) - log_totals
            found.append(count_pairs(values, positive) / (2 * pairs))
    return found


def _pairs_by_sorting(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> int:
    """Return twice the number of pairs in the right order, ties counting once."""
    own = np.sort(values[positive])
    others = np.sort(values[~positive])
    below = np.searchsorted(others, own, side="left")
    not_above = np.searchsorted(others, own, side="right")
    return int(below.sum()) + int(not_above.sum())


def _pairs_by_bins(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> int:
    """Return the same with log probabilities rounded to 8 significant bits.

    The bit pattern of a positive float grows with its value, so its upper half is a bin that is
    equally fine (1 in 256) at every scale: evenly spaced bins would throw all small probabilities,
    of which a thousand classes have most, into one.
    """
    bits = (-values).clip(0).astype(np.float32).view(np.int32)
    keys = (_NUM_KEYS - 1) - (bits >> _KEY_SHIFT)
    own = np.bincount(keys[positive], minlength=_NUM_KEYS)
    others = np.bincount(keys[~positive], minlength=_NUM_KEYS)
    below = np.cumsum(others) - others
    return int((own * (2 * below + others)).sum())
