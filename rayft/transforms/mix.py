"""Putting two training images together: mixup and cutmix, each row with its own partner and share.

A row's share is drawn from the row itself, as all augmentation is, and not once for a batch: so
neither the worker nor the size of its batches matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import assert_never, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.spec.mix import Cutmix, MixSpec, Mixup
from rayft.transforms.augment import VALUES_ON_DEVICE
from rayft.transforms.operation import Pixels, moved
from rayft.transforms.rng import Epoch, Uniforms, row_uniforms

_OPERATION = 2**16 - 1
"""Place in the list of operations from which the draws come: behind all augmentations."""
_NUM_DRAWS = 5
_PARTS = 2**12
"""Shares are multiples of one part: so the last bits of a power, which differ between processors,
reach no image."""

Shares = NDArray[np.float32]
"""[B] how much of a row is its own, in 0..1; the rest is its partner's."""


@final
@dataclass(frozen=True, slots=True)
class Mixing:
    """The `mix:` list, for one run."""

    specs: Sequence[MixSpec]
    seed: int

    def __call__(
        self,
        images: Pixels,
        partners: Pixels,
        row_ids: NDArray[np.int64],
        *,
        epoch: Epoch,
    ) -> tuple[Pixels, Shares]:
        """Return each image put together with its partner, and the shares that stayed its own.

        Args:
            images: [B, H, W, C].
            partners: [B, H, W, C], another row's image for each.
            row_ids: [B] ids of the rows.
            epoch: as in `Augmentation`.

        Returns:
            [B, H, W, C] in new memory, and [B].
        """
        draws = row_uniforms(self.seed, epoch, row_ids, operation=_OPERATION, num=_NUM_DRAWS)
        shares = np.ones(len(images), np.float32)
        if isinstance(images, Tensor):
            mixed = images.clone()
            for spec, rows in self._rows_of_each(draws[:, 0]):
                places = moved(rows, images)
                mixed[places], shares[rows] = _put_together(
                    spec, images[places], partners[places], draws[rows, 1:]
                )
            return mixed, shares
        result = images.copy()
        for spec, rows in self._rows_of_each(draws[:, 0]):
            result[rows], shares[rows] = _put_together(
                spec, images[rows], partners[rows], draws[rows, 1:]
            )
        return result, shares

    def _rows_of_each(self, draws: NDArray[np.float64]) -> list[tuple[MixSpec, NDArray[np.intp]]]:
        found = []
        last = 0.0
        for spec in self.specs:
            first, last = last, last + spec.probability
            found.append((spec, np.flatnonzero((draws >= first) & (draws < last))))
        return found


def _put_together(
    spec: MixSpec, images: Pixels, partners: Pixels, draws: Uniforms
) -> tuple[Pixels, Shares]:
    parts = _parts(spec.alpha, draws[:, :2])
    match spec:
        case Mixup():
            return _blend(images, partners, parts), (parts / _PARTS).astype(np.float32)
        case Cutmix():
            boxes = _boxes(parts, draws[:, 2:], images.shape[1:3])
            return _paste(images, partners, boxes), _shares_left(boxes, images.shape[1:3])
        case _:
            assert_never(spec)


def _parts(alpha: float, draws: Uniforms) -> NDArray[np.int64]:
    """Return shares [n] from Beta(alpha, alpha), in parts, by two numbers [n, 2] of each row."""
    words = (draws * 2.0**32).astype(np.uint64)
    keys = words[:, 0] << np.uint64(32) | words[:, 1]
    shares = [Random(key).betavariate(alpha, alpha) for key in keys.tolist()]  # noqa: S311
    return np.rint(np.array(shares, np.float64) * _PARTS).astype(np.int64)


def _blend(images: Pixels, partners: Pixels, parts: NDArray[np.int64]) -> Pixels:
    """Return the weighted means, rounded to the nearest."""
    if isinstance(images, Tensor):
        return _blended(images, partners, moved(parts.astype(np.int32), images))
    own = parts.astype(np.uint32)[:, None, None, None]
    blended = images * own
    blended += partners * (_PARTS - own)
    blended += _PARTS // 2
    blended //= _PARTS
    return blended.astype(np.uint8)


def _blended(images: Tensor, partners: Tensor, parts: Tensor) -> Tensor:
    """Do what `_blend` does, for a few rows at a time: sums take more memory than images."""
    result = torch.empty_like(images)
    num_rows = max(1, VALUES_ON_DEVICE // images.shape[1:].numel())
    for start in range(0, len(images), num_rows):
        rows = slice(start, start + num_rows)
        own = parts[rows, None, None, None]
        sums = images[rows] * own
        sums += partners[rows] * (_PARTS - own)
        sums += _PARTS // 2
        result[rows] = sums.div_(_PARTS, rounding_mode="floor")
    return result


def _paste(images: Pixels, partners: Pixels, boxes: NDArray[np.int64]) -> Pixels:
    """Return the images with a rectangle of each partner."""
    if isinstance(images, Tensor):
        y = torch.arange(images.shape[1], device=images.device)[:, None, None]
        x = torch.arange(images.shape[2], device=images.device)[:, None]
        top, left, bottom, right = moved(boxes, images)[:, :, None, None, None].unbind(1)
        inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
        return torch.where(inside, partners, images)
    result = images.copy()
    for row, (top, left, bottom, right) in enumerate(boxes.tolist()):
        result[row, top:bottom, left:right] = partners[row, top:bottom, left:right]
    return result


def _shares_left(boxes: NDArray[np.int64], size: tuple[int, ...]) -> Shares:
    """Return how much of the area of each image lies outside of its rectangle."""
    top, left, bottom, right = boxes.T
    shares: Shares = (1 - (bottom - top) * (right - left) / (size[0] * size[1])).astype(np.float32)
    return shares


def _boxes(parts: NDArray[np.int64], draws: Uniforms, size: tuple[int, ...]) -> NDArray[np.int64]:
    """Return [n, 4] top, left, bottom and right of rectangles with random centres.

    Their sides are to the image's as the root of the other's share; what lies outside is cut off.
    """
    halves = np.sqrt(1 - parts / _PARTS)[:, None] * size / 2
    centres = draws * size
    corners = np.concatenate((centres - halves, centres + halves), axis=1)
    return np.rint(corners).clip(0, (*size, *size)).astype(np.int64)
