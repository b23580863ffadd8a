"""Resizing a box of its own size of each image of a batch of tensors, all at once.

The bytes are those of torch's bilinear `interpolate` with antialiasing on uint8 images on a CPU.
That kernel turns the weights of each line into whole numbers, sums along x and rounds to uint8,
then does the same along y; so the same whole numbers give the same bytes anywhere.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.operation import moved

_MOST_BITS = 22
_WEIGHT_LIMIT = 2.0**15
"""Weights are kept below it, with as many bits behind the point as that leaves."""


def resize_boxes(images: Tensor, boxes: NDArray[np.int64], *, size: int) -> Tensor:
    """Cut a box out of each image and resize it.

    Args:
        images: [B, H, W, C] uint8.
        boxes: [B, 4] top, left, height and width in pixels, inside of the images.
        size: height and width of the result in pixels.

    Returns:
        [B, size, size, C] uint8.
    """
    for axis, first in ((2, 1), (1, 0)):
        lines = _lines(boxes[:, first], boxes[:, first + 2], size=size, images=images)
        images = _sum_lines(images, lines, axis)
    return images


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lines:
    """Of which lines of an image a line of the result is made, and how much of each."""

    first: Tensor
    """[B, size] place of the first one in the image."""
    weights: tuple[Tensor, ...]
    """[B, size] whole numbers, of the first line and of those behind it."""
    bits: Tensor
    """[B] of the weights behind the point."""


def _lines(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], *, size: int, images: Tensor
) -> _Lines:
    scales = lengths / size
    reach = np.maximum(scales, 1)
    most = 2 * int(np.ceil(reach.max(initial=1))) + 1
    scale, support, length, start = (
        moved(numbers, images)[:, None] for numbers in (scales, reach, lengths, starts)
    )
    middle = scale * (torch.arange(size, device=images.device) + 0.5)
    first = (middle - support + 0.5).long().clamp(min=0)
    count = torch.minimum((middle + support + 0.5).long(), length) - first
    inverse = moved(1 / reach, images)[:, None]
    weights = []
    total = torch.zeros_like(middle)
    for step in range(most):
        distance = ((step + first - middle + 0.5) * inverse).abs()
        weight = (1 - distance).clamp(min=0) * (step < count)
        weights.append(weight)
        total = total + weight
    weights = [weight / total for weight in weights]
    bits = _bits_behind_the_point(torch.stack(weights).amax(dim=(0, 2)))
    factor = moved(2.0 ** np.arange(_MOST_BITS + 1), images)[bits][:, None]
    whole = tuple((weight * factor + 0.5).long().int() for weight in weights)
    return _Lines(first=start + first, weights=whole, bits=bits)


def _bits_behind_the_point(largest: Tensor) -> Tensor:
    """Return [B] how many bits leave the largest weight [B] below the limit."""
    powers = 2.0 ** torch.arange(1, _MOST_BITS + 1, device=largest.device, dtype=largest.dtype)
    exceeds = (largest[:, None] * powers + 0.5).floor() >= _WEIGHT_LIMIT
    return (~exceeds).sum(dim=1)


def _sum_lines(images: Tensor, lines: _Lines, axis: int) -> Tensor:
    shape = list(images.shape)
    shape[axis] = lines.first.shape[1]
    aligned = [len(images), 1, 1, 1]
    half = torch.bitwise_left_shift(torch.ones_like(lines.bits), lines.bits - 1).int()
    bits = lines.bits.int().view(aligned)
    aligned[axis] = shape[axis]
    total = half.view(-1, 1, 1, 1).expand(shape)
    for step, weights in enumerate(lines.weights):
        places = (lines.first + step).clamp(max=images.shape[axis] - 1)
        line = images.gather(axis, places.view(aligned).expand(shape))
        total = total + line * weights.view(aligned)
    return (total >> bits).clamp(0, 255).to(torch.uint8)
