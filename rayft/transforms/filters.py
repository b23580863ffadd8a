"""Smoothing and sharpening: a pixel's value follows from those around it."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.operation import Pixels, change_rows, moved, row_blocks
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

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
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
        each = [_gaussian(self.kernel_size, sigma) for sigma in sigmas.tolist()]
        weights = np.array(each, np.float32)
        return change_rows(images, rows, lambda some: _blur(some, weights))


def sharpen(images: Pixels, factors: NDArray[np.float32]) -> Pixels:
    """Blend each image with a smoothed one; pixels at the border stay as they are.

    Equals torchvision's v2 `adjust_sharpness` on uint8 tensors within one grey level: it cuts the
    fraction off, this rounds.

    Args:
        images: [B, H, W, C].
        factors: [B] or [1]; 0 gives the smoothed image, 1 the image, above it is sharper.

    Returns:
        [B, H, W, C].
    """
    if isinstance(images, Tensor):
        return _sharpened(images, factors)
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


@final
@dataclass(frozen=True, slots=True)
class SharpenAll:
    """Sharpens all images by one factor; see `sharpen`."""

    factor: float

    def __call__(self, images: Pixels, /) -> Pixels:
        """Return the changed images, [B, H, W, C] as `images`."""
        return sharpen(images, np.array([self.factor], np.float32))


def _sharpened(images: Tensor, factors: NDArray[np.float32]) -> Tensor:
    result = images.clone()
    if min(images.shape[1:3]) <= 2:
        return result
    wide = images.to(torch.int16)
    centre = wide[:, 1:-1, 1:-1]
    lines = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    smooth = lines[:, :, :-2] + lines[:, :, 1:-1] + lines[:, :, 2:]
    smooth = smooth + (_CENTRE_WEIGHT - 1) * centre + _SUM_OF_WEIGHTS // 2
    smooth = smooth.div(_SUM_OF_WEIGHTS, rounding_mode="floor")
    sharp = (centre - smooth).float() * moved(factors, images)[:, None, None, None] + smooth
    result[:, 1:-1, 1:-1] = sharp.round().clamp(0, 255).to(torch.uint8)
    return result


def _gaussian(size: int, sigma: float) -> list[float]:
    """Return the weights from the middle outwards: size // 2 + 1, summing to 1 over both sides."""
    # Python's exponential: numpy's rounds differently with other vector instructions.
    weights = [math.exp(-((x / sigma) ** 2) / 2) for x in range(size // 2 + 1)]
    total = weights[0] + 2 * math.fsum(weights[1:])
    return [weight / total for weight in weights]


def _blur(images: Pixels, weights: NDArray[np.float32]) -> Pixels:
    if isinstance(images, Tensor):
        return _blurred(images, moved(weights, images))
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


def _blurred(images: Tensor, weights: Tensor) -> Tensor:
    """Do what `_blur` does, with weights [B, size // 2 + 1]."""
    values = images.float()
    for axis in (1, 2):
        values = _summed_along(_mirrored_border(values, weights.shape[1] - 1, axis), weights, axis)
    return values.round().to(torch.uint8)


def _mirrored_border(values: Tensor, pad: int, axis: int) -> Tensor:
    last = values.shape[axis] - 1
    places = torch.arange(-pad, last + pad + 1, device=values.device)
    return values.index_select(axis, last - (last - places.abs()).abs())


def _summed_along(values: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Do what `_sum_along` does."""
    pad = weights.shape[1] - 1
    size = values.shape[axis] - 2 * pad
    middle, *others = weights[:, :, None, None, None].unbind(1)
    total = values.narrow(axis, pad, size) * middle
    for distance, weight in enumerate(others, start=1):
        both = values.narrow(axis, pad - distance, size) + values.narrow(axis, pad + distance, size)
        total += both * weight
    return total
