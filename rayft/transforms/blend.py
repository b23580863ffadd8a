"""Brightness, contrast and saturation as one clamp and one matrix of colours for each image.

Brightness and contrast turn each value v into a * v + k and clamp it after each; both clamps keep
the order of values, so they are one clamp of v beforehand. Saturation is a matrix of the three
channels, a and k go into it, and the last clamp comes at the end. That is a few passes over the
image instead of twenty.

The matrix product is exact: values and entries are multiples of powers of two, so coarse that no
sum of products needs more than the 24 bits of a float32. Whichever library multiplies, in whatever
order, on any processor and with however many rows, the same bits come out.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.blend_maps import GREY_WEIGHTS, WHITE, PerRow, color_maps
from rayft.transforms.operation import Images, Pixels, moved, row_blocks

Values = NDArray[np.float32]
"""[n, pixels * 3], red, green and blue in turn, then what only fills up; changed in place."""

_BLACK, _WHITE, _LIMIT = np.float32(0), np.float32(WHITE), np.float32(255.5)
_PIXELS, _CHANNELS = 4, 3
_WIDTH = _PIXELS * _CHANNELS
"""Values that are multiplied at once: a matrix of this size is fast, one of three is slow."""

_VALUES_PER_SUM = 64 * _WIDTH
_EXACT, _ABOVE_WHITE = 2**24, 2**8
"""Whole numbers up to here are exact in a float32; values are below 256."""
_LINES = 2**18 // _WIDTH**2
"""What OpenBLAS multiplies in the calling thread; it shares more out to threads of its own."""


def blend_colors(images: Pixels, factors: NDArray[np.float64]) -> Pixels:
    """Change brightness, contrast and saturation, in this order.

    Within a level of what the exact factors give (factors up to 2; three levels up to 4), grey
    being taken half a level lower. So each of the three alone is within a level of torchvision's,
    which cuts fractions off; a saturation near 0 or 2 leaves rare values two levels away.

    Args:
        images: [B, H, W, 3].
        factors: [B, 3], at least 0; 1 leaves a property as it is.

    Returns:
        [B, H, W, 3].
    """
    if isinstance(images, Tensor):
        return _blended(images, factors)
    maps = color_maps(factors, partial(_mean_grey, images), place=lambda numbers: numbers)
    low, high, start, shift = (
        each.astype(np.float32) for each in (maps.low, maps.high, maps.start, maps.shift)
    )
    matrices = _of_four_pixels(maps.matrices.astype(np.float32))
    exceeds = factors[:, 2] > 1
    result = np.empty(images.shape, np.uint8)
    size = images[0].size
    memory = _memory(images)
    for rows, values in _in_blocks(images):
        _clamp(values, low[rows], high[rows])
        if start[rows].any():
            values -= start[rows, None]
        blended = _multiply(values, matrices[rows], memory[: len(values)])
        blended += shift[rows, None]
        # A saturation up to 1 leads no further outside than rounding does.
        if exceeds[rows].any():
            blended.clip(_BLACK, _LIMIT, out=blended)
        result[rows].reshape(-1, size)[...] = blended[:, :size]
    return result


def _in_blocks(images: Images) -> Iterator[tuple[slice, Values]]:
    """Yield some rows and their values at a time, so few that they stay in a core's cache."""
    size = images[0].size
    memory = _memory(images)
    for rows in row_blocks(images):
        some = images[rows]
        values = memory[: len(some)]
        values[:, :size] = some.reshape(-1, size)
        yield rows, values


def _memory(images: Images) -> Values:
    """Return room for the values of a block, to be used again for the next one.

    Fresh memory would have to be cleared by the kernel each time.
    """
    size = -(-images[0].size // _VALUES_PER_SUM) * _VALUES_PER_SUM
    rows = next(row_blocks(images))
    return np.zeros((len(images[rows]), size), np.float32)


def _clamp(values: Values, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
    if (low > 0).any() or (high < _WHITE).any():
        values.clip(low[:, None], high[:, None], out=values)


def _mean_grey(images: Images, white: PerRow, steps: PerRow) -> PerRow:
    """Return the mean brightness to the eye of images clamped at `white`.

    Their values are multiples of 1 / `steps`. Sums run down columns, so few values at a time that
    none needs more bits than a float32 has.
    """
    high = white.astype(np.float32)
    most = max(1, int(_EXACT / _ABOVE_WHITE / steps.max()))
    columns = np.zeros((len(images), _VALUES_PER_SUM))
    for rows, values in _in_blocks(images):
        _clamp(values, np.zeros_like(high[rows]), high[rows])
        lines = values.reshape(len(values), -1, _VALUES_PER_SUM)
        for start in range(0, lines.shape[1], most):
            columns[rows] += np.add.reduce(lines[:, start : start + most], axis=1)
    sums = columns.reshape(len(images), -1, _CHANNELS).sum(axis=1)
    red, green, blue = sums.T
    total: PerRow = red * GREY_WEIGHTS[0] + green * GREY_WEIGHTS[1] + blue * GREY_WEIGHTS[2]
    mean: PerRow = total / (images[0].size // _CHANNELS)
    return mean


def _of_four_pixels(matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    wide = np.zeros((len(matrices), _WIDTH, _WIDTH), np.float32)
    for start in range(0, _WIDTH, _CHANNELS):
        pixel = slice(start, start + _CHANNELS)
        wide[:, pixel, pixel] = matrices
    return wide


def _multiply(values: Values, matrices: NDArray[np.float32], result: Values) -> Values:
    """Apply to each pixel the matrix of its image."""
    given = values.reshape(len(values), -1, _WIDTH)
    product = result.reshape(given.shape)
    num_parts = -(-given.shape[1] // _LINES)
    lines = -(-given.shape[1] // num_parts)
    for start in range(0, given.shape[1], lines):
        part = slice(start, start + lines)
        np.matmul(given[:, part], matrices, out=product[:, part])
    return result


def _blended(images: Tensor, factors: NDArray[np.float64]) -> Tensor:
    """Do what `blend_colors` does; exact products need no particular matrix multiplication."""

    def place(numbers: NDArray[np.float64]) -> Tensor:
        return moved(numbers, images)

    def mean_grey(white: NDArray[np.float64], steps: NDArray[np.float64]) -> Tensor:
        return _mean_grey_of(images, place(white), place(steps))

    maps = color_maps(factors, mean_grey, place=place)
    low, high, start, shift = (
        each.float()[:, None, None] for each in (maps.low, maps.high, maps.start, maps.shift)
    )
    channels = [channel.float().clamp(low, high) - start for channel in images.unbind(3)]
    red, green, blue = maps.matrices.float()[:, :, :, None, None].unbind(1)
    planes = []
    for new in range(_CHANNELS):
        plane = channels[0] * red[:, new] + channels[1] * green[:, new] + channels[2] * blue[:, new]
        planes.append((plane + shift).clamp(float(_BLACK), float(_LIMIT)).to(torch.uint8))
    return torch.stack(planes, dim=3)


def _mean_grey_of(images: Tensor, white: Tensor, steps: Tensor) -> Tensor:
    """Do what `_mean_grey` does, by sums of whole numbers of steps."""
    wide = [-1, 1, 1, 1]
    counts = images.float().clamp(max=white.float().view(wide)) * steps.float().view(wide)
    sums = counts.int().sum(dim=(1, 2), dtype=torch.int64).double() / steps[:, None]
    red, green, blue = sums.unbind(1)
    total = red * GREY_WEIGHTS[0] + green * GREY_WEIGHTS[1] + blue * GREY_WEIGHTS[2]
    # Some devices multiply by the reciprocal where they are to divide by a plain number.
    return total / torch.full_like(total, images.shape[1] * images.shape[2])
