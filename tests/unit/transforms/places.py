"""Where a warp takes its pixels from, in float64."""

import numpy as np


def in_the_middle(matrices: np.ndarray, height: int, width: int) -> np.ndarray:
    """Tell which pixels [B, H, W] come from within a thousandth of the middle between two.

    torchvision's rounding and ours may take either neighbour there.
    """
    y, x = np.mgrid[:height, :width]
    places = np.stack((x, y, np.ones_like(x))).reshape(3, -1)
    found = matrices.astype(np.float64).reshape(-1, 3, 3) @ places
    found = found[:, :2] / found[:, 2:]
    return (np.abs(found % 1 - 0.5) < 1e-3).any(axis=1).reshape(-1, height, width)
