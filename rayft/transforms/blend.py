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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayft.transforms.operation import Images, row_blocks

Values = NDArray[np.float32]
"""[n, pixels * 3], red, green and blue in turn, then what only fills up; changed in place."""

PerRow = NDArray[np.float64]
"""[n]."""

_BLACK, _WHITE, _LIMIT = np.float32(0), np.float32(255), np.float32(255.5)
_WEIGHTS = (0.2989, 0.587, 0.114)
"""Of red, green and blue in the brightness to the eye, as torchvision has them."""

_CUT_OFF = 0.5
"""torchvision cuts greys to whole numbers; on average that takes half a level away."""

_SMALLEST_SCALE = 1e-6
_BITS = 24
_BITS_BELOW_ONE = 2
_PIXELS, _CHANNELS = 4, 3
_WIDTH = _PIXELS * _CHANNELS
"""Values that are multiplied at once: a matrix of this size is fast, one of three is slow."""

_VALUES_PER_SUM = 64 * _WIDTH
_LINES = 2**18 // _WIDTH**2
"""What OpenBLAS multiplies in the calling thread; it shares more out to threads of its own."""


def blend_colors(images: Images, factors: NDArray[np.float64]) -> Images:
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
    maps = _maps(images, factors)
    result = np.empty(images.shape, np.uint8)
    size = images[0].size
    memory = _memory(images)
    for rows, values in _in_blocks(images):
        _clamp(values, maps.low[rows], maps.high[rows])
        if maps.start[rows].any():
            values -= maps.start[rows, None]
        blended = _multiply(values, maps.matrices[rows], memory[: len(values)])
        blended += maps.shift[rows, None]
        if maps.exceeds[rows].any():
            blended.clip(_BLACK, _LIMIT, out=blended)
        result[rows].reshape(-1, size)[...] = blended[:, :size]
    return result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Maps:
    """What becomes of the values of each image."""

    low: NDArray[np.float32]
    """[B], what values are clamped to at first."""
    high: NDArray[np.float32]
    start: NDArray[np.float32]
    """[B], then subtracted."""
    matrices: NDArray[np.float32]
    """[B, 12, 12], then applied: from the channels of four pixels (first axis) to new ones."""
    shift: NDArray[np.float32]
    """[B], then added; with the half that makes cutting off a rounding."""
    exceeds: NDArray[np.bool_]
    """[B] whether results may lie so far outside of 0..255 that they have to be clamped."""


def _maps(images: Images, factors: NDArray[np.float64]) -> _Maps:
    brightness, contrast, saturation = factors.T
    scale = brightness * contrast
    # An error of a threshold of 1 / steps / 2 grows by this factor.
    steepness = scale * (saturation + np.abs(1 - saturation))
    steps = 2.0 ** np.maximum(_BITS_BELOW_ONE, np.frexp(steepness)[1] + 1)
    white = _on_grid(_WHITE / np.maximum(brightness, _SMALLEST_SCALE), steps)
    shift = np.zeros_like(scale)
    if (contrast != 1).any():
        grey = brightness * _mean_grey(images, white) - _CUT_OFF
        shift = np.maximum(grey, 0) * (1 - contrast)
    divisor = np.maximum(scale, _SMALLEST_SCALE)
    low = _on_grid(-shift / divisor, steps)
    high = np.minimum(_on_grid((_WHITE - shift) / divisor, steps), white)
    # Where no threshold has a fraction, no value has one, and the matrix can have more bits.
    steps = np.where((low % 1 == 0) & (high % 1 == 0), 1, steps)
    # A steep map would need many bits for values far from 0.
    start = np.where(scale > 2, low, 0)
    matrices = scale[:, None, None] * _saturating(saturation)
    shift *= saturation + (1 - saturation) * sum(_WEIGHTS)
    shift += matrices[:, :, 0].sum(axis=1) * start
    shift += _CUT_OFF * saturation  # a half to round, and for grey -_CUT_OFF * (1 - saturation)
    return _Maps(
        low=low.astype(np.float32),
        high=high.astype(np.float32),
        start=start.astype(np.float32),
        matrices=_of_four_pixels(_exact(matrices, high - start, steps)),
        shift=shift.astype(np.float32),
        exceeds=saturation > 1,
    )


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


def _on_grid(thresholds: PerRow, steps: PerRow) -> PerRow:
    """Round thresholds to multiples of 1 / `steps` within 0..255."""
    return np.rint(np.clip(thresholds, 0, _WHITE) * steps) / steps


def _mean_grey(images: Images, white: PerRow) -> PerRow:
    """Return the mean brightness to the eye of images clamped at `white`.

    Sums run down columns, so their order is fixed.
    """
    high = white.astype(np.float32)
    columns = np.empty((len(images), _VALUES_PER_SUM), np.float32)
    for rows, values in _in_blocks(images):
        _clamp(values, np.zeros_like(high[rows]), high[rows])
        lines = values.reshape(len(values), -1, _VALUES_PER_SUM)
        np.add.reduce(lines, axis=1, out=columns[rows])
    sums = columns.reshape(len(images), -1, _CHANNELS).sum(axis=1, dtype=np.float64)
    red, green, blue = sums.T
    total: PerRow = red * _WEIGHTS[0] + green * _WEIGHTS[1] + blue * _WEIGHTS[2]
    mean: PerRow = total / (images[0].size // _CHANNELS)
    return mean


def _saturating(saturation: PerRow) -> NDArray[np.float64]:
    """Return the matrices [n, 3, 3] of a change of saturation; each column makes a new channel."""
    of_grey = np.array(_WEIGHTS)[:, None] * (1 - saturation)[:, None, None]
    matrices: NDArray[np.float64] = of_grey + saturation[:, None, None] * np.eye(_CHANNELS)
    return matrices


def _exact(matrices: NDArray[np.float64], largest: PerRow, steps: PerRow) -> NDArray[np.float32]:
    """Round the entries so that products with values up to `largest` and their sums are exact."""
    # A little more than the sum of the products' sizes, for what rounding may add to it.
    sums = 1.01 * largest * np.abs(matrices).sum(axis=1).max(axis=1)
    units = (2.0 ** (_BITS - np.frexp(np.maximum(sums, 1))[1]) / steps)[:, None, None]
    rounded: NDArray[np.float64] = np.rint(matrices * units) / units
    return rounded.astype(np.float32)


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
