"""TrivialAugment and RandAugment: operations that are chosen at random for each row."""

import math
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import ClassVar, assert_never, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.blend import blend_colors
from rayft.transforms.filters import sharpen
from rayft.transforms.operation import Pixels, check_rgb, moved
from rayft.transforms.rng import Uniforms
from rayft.transforms.tones import equalize, posterize, solarize, stretch_contrast
from rayft.transforms.warp import Interpolation, Matrix, affine_matrix, warp

Choices = NDArray[np.int64]
"""[B] places in `CHANGES`."""

Strengths = NDArray[np.float64]
"""[B], the strength of a change in each row, with its sign."""


class Change(Enum):
    """The operations to choose from, in the order of torchvision's tables."""

    IDENTITY = auto()
    SHEAR_X = auto()
    SHEAR_Y = auto()
    TRANSLATE_X = auto()
    TRANSLATE_Y = auto()
    ROTATE = auto()
    BRIGHTNESS = auto()
    COLOR = auto()
    CONTRAST = auto()
    SHARPNESS = auto()
    POSTERIZE = auto()
    SOLARIZE = auto()
    AUTO_CONTRAST = auto()
    EQUALIZE = auto()


CHANGES = tuple(Change)
_IS_SIGNED = np.array([Change.SHEAR_X.value <= c.value <= Change.SHARPNESS.value for c in CHANGES])


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The greatest strengths of a family of policies."""

    shear: float
    """Shift of a line over its distance from the corner."""
    shift: float | None
    """In pixels; None: 150/331 of the image's side."""
    degrees: float
    blend: float
    """By how much a factor of colour or sharpness leaves 1."""
    lost_bits: int


WIDE = Space(shear=0.99, shift=32, degrees=135, blend=0.99, lost_bits=6)
"""TrivialAugment: Mueller & Hutter 2021 (https://arxiv.org/abs/2103.10158), table 5, wide."""

NARROW = Space(shear=0.3, shift=None, degrees=30, blend=0.9, lost_bits=4)
"""RandAugment: Cubuk et al. 2020 (https://arxiv.org/abs/1909.13719), as torchvision sets it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentTrivially:
    """Changes each row by one operation of `CHANGES`, at a strength drawn from the wide space.

    The law is that of torchvision's `TrivialAugmentWide`; see `change_each` for the pixels.
    """

    num_draws: ClassVar[int] = 3
    resizes: ClassVar[bool] = False
    num_bins: int
    interpolation: Interpolation

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return the changed images.

        Args:
            images: [B, H, W, 3].
            draws: [B, 3], for the operation, the strength and its sign.

        Returns:
            [B, H, W, 3].

        Raises:
            ValueError: the images are not RGB.
        """
        check_rgb(images, "trivial_augment")
        table = strengths(WIDE, self.num_bins, images.shape[1], images.shape[2])
        choices = _choices(draws[:, 0], len(CHANGES))
        chosen = table[choices, _choices(draws[:, 1], self.num_bins)]
        signed = _signed(chosen, choices, draws[:, 2])
        return change_each(images, choices, signed, interpolation=self.interpolation)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentRandomly:
    """Changes each row by some operations of `CHANGES`, one after the other, at one strength.

    The law is that of torchvision's `RandAugment`; see `change_each` for the pixels.
    """

    resizes: ClassVar[bool] = False
    num_operations: int
    place: int
    """Of the strength on the scale, from 0."""
    num_bins: int
    interpolation: Interpolation

    @property
    def num_draws(self) -> int:
        """For each operation, which it is and the sign of its strength."""
        return 2 * self.num_operations

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return the changed images.

        Args:
            images: [B, H, W, 3].
            draws: [B, num_draws].

        Returns:
            [B, H, W, 3].

        Raises:
            ValueError: the images are not RGB.
        """
        check_rgb(images, "rand_augment")
        table = strengths(NARROW, self.num_bins, images.shape[1], images.shape[2])
        for start in range(0, self.num_draws, 2):
            choices = _choices(draws[:, start], len(CHANGES))
            signed = _signed(table[choices, self.place], choices, draws[:, start + 1])
            images = change_each(images, choices, signed, interpolation=self.interpolation)
        return images


@lru_cache(maxsize=16)
def strengths(space: Space, num_bins: int, height: int, width: int) -> NDArray[np.float64]:
    """Return the strengths [14, num_bins] of `CHANGES`, from the least to the greatest.

    Shears and blends are shares, shifts whole pixels, rotations degrees; of posterize the bits
    that stay, of solarize the least value that is inverted; 0 where there is no strength.
    """
    last = num_bins - 1
    shares = [place / last for place in range(num_bins)]
    shift_x, shift_y = (
        [math.floor(_most_shift(space, size) * place / last) for place in range(num_bins)]
        for size in (width, height)
    )
    shear, turn, blend = (
        [most * share for share in shares] for most in (space.shear, space.degrees, space.blend)
    )
    bits = [round(8 - space.lost_bits * share) for share in shares]
    thresholds = [math.ceil(255 * (last - place) / last) for place in range(num_bins)]
    none = [0.0] * num_bins
    moves = [shear, shear, shift_x, shift_y, turn]
    table = np.array([none, *moves, *[blend] * 4, bits, thresholds, none, none], np.float64)
    table.flags.writeable = False
    return table


def change_each(
    images: Pixels, choices: Choices, strength: Strengths, *, interpolation: Interpolation
) -> Pixels:
    """Change each row by an operation of its own.

    Each operation is torchvision's v2 function on uint8 tensors: the same bytes for posterize,
    solarize, contrast stretching and equalising; one grey level for colours and sharpness; for
    shears, shifts and rotations see `warp`.

    Args:
        images: [B, H, W, 3].
        choices: [B] places in `CHANGES`.
        strength: [B], signed.
        interpolation: how shears, shifts and rotations take pixels.

    Returns:
        [B, H, W, 3].
    """
    if isinstance(images, Tensor):
        changed = images.clone()
        for change, rows in _rows_of_each(choices):
            places = moved(rows, images)
            changed[places] = _change(change, images[places], strength[rows], interpolation)
        return changed
    result = images.copy()
    for change, rows in _rows_of_each(choices):
        result[rows] = _change(change, images[rows], strength[rows], interpolation)
    return result


def _rows_of_each(choices: Choices) -> list[tuple[Change, NDArray[np.intp]]]:
    """Return which rows are changed by each operation that any row chose."""
    return [
        (CHANGES[place], np.flatnonzero(choices == place)) for place in np.unique(choices).tolist()
    ]


def _change(  # noqa: C901, PLR0912  one case for each operation
    change: Change, images: Pixels, strength: Strengths, interpolation: Interpolation
) -> Pixels:
    match change:
        case Change.IDENTITY:
            return images
        case (
            Change.SHEAR_X
            | Change.SHEAR_Y
            | Change.TRANSLATE_X
            | Change.TRANSLATE_Y
            | Change.ROTATE
        ):
            height, width = images.shape[1:3]
            matrices = [matrix_of(change, by, height, width) for by in strength.tolist()]
            return warp(images, np.array(matrices, np.float32), interpolation=interpolation)
        case Change.BRIGHTNESS | Change.CONTRAST | Change.COLOR:
            factors = np.ones((len(images), 3))
            factors[:, _BLENDS.index(change)] += strength
            return blend_colors(images, factors)
        case Change.SHARPNESS:
            return sharpen(images, (1 + strength).astype(np.float32))
        case Change.POSTERIZE:
            return posterize(images, strength.astype(np.int64))
        case Change.SOLARIZE:
            return solarize(images, strength.astype(np.int64))
        case Change.AUTO_CONTRAST:
            return stretch_contrast(images)
        case Change.EQUALIZE:
            return equalize(images)
        case _:
            assert_never(change)


_BLENDS = (Change.BRIGHTNESS, Change.CONTRAST, Change.COLOR)
"""In the order of the factors of `blend_colors`."""


def matrix_of(change: Change, by: float, height: int, width: int) -> Matrix:
    """Return the map of a shear, a shift or a rotation of a given strength."""
    if change is Change.ROTATE:
        return affine_matrix(height, width, degrees=-by)
    if change in (Change.TRANSLATE_X, Change.TRANSLATE_Y):
        shift = (by, 0.0) if change is Change.TRANSLATE_X else (0.0, by)
        return affine_matrix(height, width, translate=shift)
    angle = math.degrees(math.atan(by))
    shear = (angle, 0.0) if change is Change.SHEAR_X else (0.0, angle)
    return affine_matrix(height, width, shear=shear, about_corner=True)


def _most_shift(space: Space, size: int) -> float:
    return 150 * size / 331 if space.shift is None else space.shift


def _choices(uniforms: Uniforms, num: int) -> Choices:
    return (uniforms * num).astype(np.int64)


def _signed(strength: Strengths, choices: Choices, uniforms: Uniforms) -> Strengths:
    return np.where(_IS_SIGNED[choices] & (uniforms < 0.5), -strength, strength)
