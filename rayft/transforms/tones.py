"""Changing values by a rule that looks at each value, or at how often each occurs.

All give the same bytes as torchvision's v2 functions on uint8 tensors.
"""

import numpy as np
from numpy.typing import NDArray

from rayft.transforms.operation import Images, row_blocks

Counts = NDArray[np.int64]
"""[B * C, 256], how many pixels of a channel have each value."""

Tables = NDArray[np.uint8]
"""[B * C, 256], what each value of a channel becomes."""

_LEVELS = 256


def invert(images: Images) -> Images:
    """Turn each value v into 255 - v; images are [B, H, W, C], as below."""
    return ~images


def posterize(images: Images, bits: NDArray[np.int64]) -> Images:
    """Keep the highest `bits` [B] or [1] of each value, each from 1 to 8."""
    mask = (_LEVELS - (_LEVELS >> bits)).astype(np.uint8)
    return images & mask[:, None, None, None]


def solarize(images: Images, thresholds: NDArray[np.int64]) -> Images:
    """Invert the values from `thresholds` [B] or [1] on, each from 0 to 255."""
    bright = images >= thresholds.astype(np.uint8)[:, None, None, None]
    # 255 where a value is to be inverted: v ^ 255 is 255 - v.
    mask = bright.view(np.uint8)
    np.negative(mask, out=mask)
    mask ^= images
    return mask


def stretch_contrast(images: Images) -> Images:
    """Map each channel so that its darkest value becomes 0 and its lightest 255."""
    result = np.empty(images.shape, np.uint8)
    _, height, width, channels = images.shape
    for rows in row_blocks(images):
        lines = images[rows].reshape(-1, height, width * channels)
        darkest, lightest = (
            reduce(reduce(lines, axis=1).reshape(-1, width, channels), axis=1).astype(np.float32)
            for reduce in (np.minimum.reduce, np.maximum.reduce)
        )
        scale = (lightest - darkest) * np.float32(1 / 255)
        flat = lightest == darkest
        darkest[flat], scale[flat] = 0, 1
        values = lines.astype(np.float32)
        values -= np.tile(darkest, width)[:, None]
        values /= np.tile(scale, width)[:, None]
        result[rows].reshape(lines.shape)[...] = values
    return result


def equalize(images: Images) -> Images:
    """Map each channel so that its values become about equally frequent."""
    result = np.empty(images.shape, np.uint8)
    for rows in row_blocks(images):
        some = images[rows]
        num_tables = len(some) * some.shape[3]
        places = some + _LEVELS * np.arange(num_tables).reshape(len(some), 1, 1, -1)
        counts = np.bincount(places.reshape(-1), minlength=_LEVELS * num_tables)
        tables = _equalizing(counts.reshape(num_tables, _LEVELS))
        result[rows] = tables.reshape(-1).take(places)
    return result


def _equalizing(counts: Counts) -> Tables:
    """Return the tables of `equalize`, by the rule of Pillow."""
    levels = np.arange(_LEVELS)
    lightest = _LEVELS - 1 - (counts > 0)[:, ::-1].argmax(axis=1, keepdims=True)
    below = counts.cumsum(axis=1) - counts
    step = (counts.sum(axis=1, keepdims=True) - np.take_along_axis(counts, lightest, 1)) // 255
    spread = ((below + step // 2) // np.maximum(step, 1)).clip(0, 255)
    return np.where(step > 0, spread, levels).astype(np.uint8)
