"""Changing values by a rule that looks at each value, or at how often each occurs.

All give the same bytes as torchvision's v2 functions on uint8 tensors.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.operation import Pixels, moved, row_blocks

Counts = NDArray[np.int64]
"""[B * C, 256], how many pixels of a channel have each value."""

Tables = NDArray[np.uint8]
"""[B * C, 256], what each value of a channel becomes."""

_LEVELS = 256


def invert(images: Pixels) -> Pixels:
    """Turn each value v into 255 - v; images are [B, H, W, C], as below."""
    return ~images


def posterize(images: Pixels, bits: NDArray[np.int64]) -> Pixels:
    """Keep the highest `bits` [B] or [1] of each value, each from 1 to 8."""
    mask = (_LEVELS - (_LEVELS >> bits)).astype(np.uint8)[:, None, None, None]
    if isinstance(images, Tensor):
        return images & moved(mask, images)
    return images & mask


def solarize(images: Pixels, thresholds: NDArray[np.int64]) -> Pixels:
    """Invert the values from `thresholds` [B] or [1] on, each from 0 to 255."""
    least = thresholds.astype(np.uint8)[:, None, None, None]
    if isinstance(images, Tensor):
        return torch.where(images >= moved(least, images), ~images, images)
    bright = images >= least
    # 255 where a value is to be inverted: v ^ 255 is 255 - v.
    mask = bright.view(np.uint8)
    np.negative(mask, out=mask)
    mask ^= images
    return mask


@final
@dataclass(frozen=True, slots=True)
class PosterizeAll:
    """Keeps the highest bits of each value, as many in all images."""

    bits: int

    def __call__(self, images: Pixels, /) -> Pixels:
        """Return the changed images, [B, H, W, C] as `images`."""
        return posterize(images, np.array([self.bits]))


@final
@dataclass(frozen=True, slots=True)
class SolarizeAll:
    """Inverts the values from a threshold on, the same in all images."""

    threshold: int

    def __call__(self, images: Pixels, /) -> Pixels:
        """Return the changed images, [B, H, W, C] as `images`."""
        return solarize(images, np.array([self.threshold]))


def stretch_contrast(images: Pixels) -> Pixels:
    """Map each channel so that its darkest value becomes 0 and its lightest 255."""
    if isinstance(images, Tensor):
        return _stretched(images)
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


def equalize(images: Pixels) -> Pixels:
    """Map each channel so that its values become about equally frequent."""
    if isinstance(images, Tensor):
        return _equalized(images)
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


def _stretched(images: Tensor) -> Tensor:
    darkest = images.amin(dim=(1, 2), keepdim=True).float()
    lightest = images.amax(dim=(1, 2), keepdim=True).float()
    scale = (lightest - darkest) * float(np.float32(1 / 255))
    flat = lightest == darkest
    darkest, scale = darkest.masked_fill(flat, 0), scale.masked_fill(flat, 1)
    return ((images.float() - darkest) / scale).to(torch.uint8)


def _equalized(images: Tensor) -> Tensor:
    num_rows, height, width, channels = images.shape
    values = images.permute(0, 3, 1, 2).reshape(num_rows * channels, -1).long()
    one = torch.ones((), dtype=torch.int64, device=images.device)
    # Sums of integers, so the order in which a device adds them does not matter.
    counts = values.new_zeros((len(values), _LEVELS)).scatter_add_(1, values, one.expand_as(values))
    equal = _equalizing_on_device(counts).gather(1, values)
    return equal.view(num_rows, channels, height, width).permute(0, 2, 3, 1).contiguous()


def _equalizing_on_device(counts: Tensor) -> Tensor:
    """Do what `_equalizing` does."""
    levels = torch.arange(_LEVELS, device=counts.device)
    lightest = ((counts > 0) * levels).amax(dim=1, keepdim=True)
    below = counts.cumsum(dim=1) - counts
    total = counts.sum(dim=1, keepdim=True)
    step = (total - counts.gather(1, lightest)).div(255, rounding_mode="floor")
    half = step.div(2, rounding_mode="floor")
    spread = (below + half).div(step.clamp(min=1), rounding_mode="floor").clamp(0, 255)
    return torch.where(step > 0, spread, levels).to(torch.uint8)
