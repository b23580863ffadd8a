"""Whether a model is as often right as it claims."""

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15


def expected_calibration_error(
    confidences: NDArray[np.float64], correct: NDArray[np.bool_]
) -> float:
    """Return the mean distance between confidence and accuracy over 15 bins of equal width.

    A bin holds confidences above its lower and up to its upper edge, and counts by its share of
    the rows.

    Args:
        confidences: probability of the predicted class, [N], N at least 1.
        correct: whether the prediction was right, [N].

    Source: Guo et al. 2017 (https://arxiv.org/abs/1706.04599), equation 3.
    """
    edges = np.linspace(0.0, 1.0, NUM_BINS + 1)
    bins = np.searchsorted(edges[1:-1], confidences, side="left")
    claimed = np.bincount(bins, weights=confidences, minlength=NUM_BINS)
    right = np.bincount(bins[correct], minlength=NUM_BINS)
    return float(np.abs(claimed - right).sum() / len(confidences))
