"""Putting two training images together: mixup and cutmix, each row with its own partner and share.

A row's share is drawn from the row itself, as all augmentation is, and not once for a batch: so
neither the worker nor the size of its batches matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import assert_never, final

import numpy as np
from numpy.typing import NDArray

from rayft.spec.mix import Cutmix, MixSpec, Mixup
from rayft.transforms.operation import Images
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
        images: Images,
        partners: Images,
        row_ids: NDArray[np.int64],
        *,
        epoch: Epoch,
    ) -> tuple[Images, Shares]:
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
        result, shares = images.copy(), np.ones(len(images), np.float32)
        last = 0.0
        for spec in self.specs:
            first, last = last, last + spec.probability
            rows = np.flatnonzero((draws[:, 0] >= first) & (draws[:, 0] < last))
            result[rows], shares[rows] = _put_together(
                spec, images[rows], partners[rows], draws[rows, 1:]
            )
        return result, shares


def _put_together(
    spec: MixSpec, images: Images, partners: Images, draws: Uniforms
) -> tuple[Images, Shares]:
    parts = _parts(spec.alpha, draws[:, :2])
    match spec:
        case Mixup():
            return _blend(images, partners, parts), (parts / _PARTS).astype(np.float32)
        case Cutmix():
            return _paste(images, partners, _boxes(parts, draws[:, 2:], images.shape[1:3]))
        case _:
            assert_never(spec)


def _parts(alpha: float, draws: Uniforms) -> NDArray[np.int64]:
    """Return shares [n] from Beta(alpha, alpha), in parts, by two numbers [n, 2] of each row."""
    words = (draws * 2.0**32).astype(np.uint64)
    keys = words[:, 0] << np.uint64(32) | words[:, 1]
    shares = [Random(key).betavariate(alpha, alpha) for key in keys.tolist()]  # noqa: S311
    return np.rint(np.array(shares, np.float64) * _PARTS).astype(np.int64)


def _blend(images: Images, partners: Images, parts: NDArray[np.int64]) -> Images:
    """Return the weighted means, rounded to the nearest."""
    own = parts.astype(np.uint32)[:, None, None, None]
    blended = images * own
    blended += partners * (_PARTS - own)
    blended += _PARTS // 2
    blended //= _PARTS
    return blended.astype(np.uint8)


def _paste(images: Images, partners: Images, boxes: NDArray[np.int64]) -> tuple[Images, Shares]:
    """Return the images with a rectangle of each partner, and the share of the area that stayed."""
    result, shares = images.copy(), np.empty(len(images), np.float32)
    area = images.shape[1] * images.shape[2]
    for row, (top, left, bottom, right) in enumerate(boxes.tolist()):
        result[row, top:bottom, left:right] = partners[row, top:bottom, left:right]
        shares[row] = 1 - (bottom - top) * (right - left) / area
    return result, shares


def _boxes(parts: NDArray[np.int64], draws: Uniforms, size: tuple[int, ...]) -> NDArray[np.int64]:
    """Return [n, 4] top, left, bottom and right of rectangles with random centres.

    Their sides are to the image's as the root of the other's share; what lies outside is cut off.
    """
    halves = np.sqrt(1 - parts / _PARTS)[:, None] * size / 2
    centres = draws * size
    corners = np.concatenate((centres - halves, centres + halves), axis=1)
    return np.rint(corners).clip(0, (*size, *size)).astype(np.int64)
