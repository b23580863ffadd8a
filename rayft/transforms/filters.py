"""Smoothing and sharpening: a pixel's value follows from those around it."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from rayft.transforms.operation import Images, change_rows, row_blocks
from rayft.transforms.rng import Uniforms

_CENTRE_WEIGHT, _SUM_OF_WEIGHTS = 5, 13


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BlurGaussian:
    """Smooths a share of the images, each with a Gaussian of its own width.

    Borders are mirrored. Equals torchvision's v2 `gaussian_blur` on uint8 tensors within one grey
    level: it sums over the square at once, this first along the lines and then across them.
    """

    num_draws: ClassVar[int] = 2
    resizes: ClassVar[bool] = False
    kernel_size: int
    sigma: tuple[float, float]
    probability: float

    def __call__(self, images: Images, draws: Uniforms) -> Images:
        """Return a copy in which the rows that drew below `probability` are smoothed.

        Args:
            images: [B, H, W, C], H and W above half of `kernel_size`.
            draws: [B, 2], the first decides, the second is for the width.

        Returns:
            [B, H, W, C].
        """
        rows = np.flatnonzero(draws[:, 0] < self.probability)
        least, most = self.sigma
        sigmas = least + (most - least) * draws[rows, 1]
        weights = [_gaussian(self.kernel_size, sigma) for sigma in sigmas.tolist()]
        return change_rows(images, rows, partial(_blur, weights=np.array(weights, np.float32)))


def sharpen(images: Images, factors: NDArray[np.float32]) -> Images:
    """Blend each image with a smoothed one; pixels at the border stay as they are.

    Equals torchvision's v2 `adjust_sharpness` on uint8 tensors within one grey level: it cuts the
    fraction off, this rounds.

    Args:
        images: [B, H, W, C].
        factors: [B] or [1]; 0 gives the smoothed image, 1 the image, above it is sharper.

    Returns:
        [B, H, W, C].
    """
    result = images.copy()
    if min(images.shape[1:3]) <= 2:
        return result
    factors = np.broadcast_to(factors, len(images))
    for rows in row_blocks(images):
        wide = images[rows].astype(np.int16)
        centre = wide[:, 1:-1, 1:-1]
        lines = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
        smooth = lines[:, :, :-2] + lines[:, :, 1:-1] + lines[:, :, 2:]
        smooth += (_CENTRE_WEIGHT - 1) * centre
        smooth += _SUM_OF_WEIGHTS // 2
        smooth //= _SUM_OF_WEIGHTS
        # The smoothed image is whole numbers, as in torchvision, so only the blend rounds.
        sharp = (centre - smooth).astype(np.float32)
        sharp *= factors[rows, None, None, None]
        sharp += smooth
        result[rows, 1:-1, 1:-1] = np.rint(sharp).clip(0, 255)
    return result


def _gaussian(size: int, sigma: float) -> list[float]:
    """Return the weights from the middle outwards: size // 2 + 1, summing to 1 over both sides."""
    # Python's exponential: numpy's rounds differently with other vector instructions.
    weights = [math.exp(-((x / sigma) ** 2) / 2) for x in range(size // 2 + 1)]
    total = weights[0] + 2 * math.fsum(weights[1:])
    return [weight / total for weight in weights]


def _blur(images: Images, weights: NDArray[np.float32]) -> Images:
    result = np.empty(images.shape, np.uint8)
    pad = weights.shape[1] - 1
    border = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    for rows in row_blocks(images):
        values = np.pad(images[rows], border, mode="reflect").astype(np.float32)
        values = _sum_along(_sum_along(values, weights[rows], axis=1), weights[rows], axis=2)
        result[rows] = np.rint(values)
    return result


def _sum_along(
    values: NDArray[np.float32], weights: NDArray[np.float32], *, axis: int
) -> NDArray[np.float32]:
    """Return the weighted sum of neighbours; shorter along `axis` by what has no neighbours."""
    pad = weights.shape[1] - 1
    size = values.shape[axis] - 2 * pad

    def shifted(offset: int) -> NDArray[np.float32]:
        cut = [slice(None)] * 4
        cut[axis] = slice(pad + offset, pad + offset + size)
        return values[tuple(cut)]

    total = shifted(0) * weights[:, 0, None, None, None]
    for distance in range(1, pad + 1):
        both = shifted(-distance) + shifted(distance)
        both *= weights[:, distance, None, None, None]
        total += both
    return total
