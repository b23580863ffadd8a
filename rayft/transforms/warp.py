"""Moving pixels: each pixel of the result is taken from a place of its image.

Places and values are made by numpy functions of one rounding each, so that the same bits come out
on every machine. A library's kernel would multiply and add in one rounding on some and in two on
others, and near the middle between two pixels that is another pixel.
"""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.operation import Images, Pixels, moved, row_blocks

Interpolation = Literal["nearest", "bilinear"]

Places = NDArray[np.float32]
"""[B, H, W]; the first pixel's middle is at 0, the last one's at W - 1 (or H - 1)."""

Matrix = tuple[float, ...]
"""Nine numbers, row by row: from a place (x, y, 1) of the result to its place in the image, times
the third coordinate."""


def warp(images: Pixels, matrices: NDArray[np.float32], *, interpolation: Interpolation) -> Pixels:
    """Return images whose pixels come from the places that a matrix says, black from outside.

    As torchvision's v2 functions without `fill` on uint8 tensors, whose places have another
    rounding: bilinear within one grey level; nearest the same pixel, unless its place lies within
    a thousandth of the middle between two. Bilinear fades to black over the pixel at the border.

    Args:
        images: [B, H, W, C].
        matrices: [B, 9], each a `Matrix`.
        interpolation: take the nearest pixel, or mix the nearest four.

    Returns:
        [B, H, W, C].
    """
    if isinstance(images, Tensor):
        return _warped(images, matrices, interpolation)
    result = np.empty(images.shape, np.uint8)
    for rows in row_blocks(images):
        xs, ys = _places(matrices[rows], height=images.shape[1], width=images.shape[2])
        if interpolation == "nearest":
            _take_nearest(images[rows], xs, ys, result[rows])
        else:
            _mix_nearest_four(images[rows], xs, ys, result[rows])
    return result


def affine_matrix(  # noqa: PLR0913  each is a part of the map
    height: int,
    width: int,
    *,
    degrees: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
    about_corner: bool = False,
) -> Matrix:
    """Return the matrix of torchvision's `affine`: shear, scale, turn about the middle, then shift.

    Python's sine and cosine rather than numpy's, which round differently with other vector
    instructions.

    Args:
        height: of the images.
        width: of the images.
        degrees: angle, clockwise.
        translate: shift along x and y in pixels.
        scale: factor.
        shear: angles along x and y in degrees.
        about_corner: turn and shear about the upper left corner instead.
    """
    turn, shear_x, shear_y = (math.radians(angle) for angle in (degrees, *shear))
    a = math.cos(turn - shear_y) / math.cos(shear_y)
    b = -(a * math.tan(shear_x) + math.sin(turn))
    c = math.sin(turn - shear_y) / math.cos(shear_y)
    d = math.cos(turn) - c * math.tan(shear_x)
    # The determinant of (a, b, c, d) is 1; the inverse leads from the result to the image.
    xx, xy, yx, yy = d / scale, -b / scale, -c / scale, a / scale
    x, y = (-0.5, -0.5) if about_corner else ((width - 1) / 2, (height - 1) / 2)
    moved_x, moved_y = x + translate[0], y + translate[1]
    x -= xx * moved_x + xy * moved_y
    y -= yx * moved_x + yy * moved_y
    return (xx, xy, x, yx, yy, y, 0.0, 0.0, 1.0)


def _places(matrices: NDArray[np.float32], *, height: int, width: int) -> tuple[Places, Places]:
    """Return where each pixel comes from, along x and y; far outside where that is nowhere."""
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        xs, ys, scale = (_combined(matrices[:, i : i + 3], x, y) for i in (0, 3, 6))
        if (matrices[:, 6:8] == 0).all():
            return xs, ys
        xs /= scale
        ys /= scale
    nowhere = ~(np.isfinite(xs) & np.isfinite(ys))
    xs[nowhere] = ys[nowhere] = -2
    return xs, ys


def _combined(
    factors: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return factors[0] * x + factors[1] * y + factors[2] for every row, y and x."""
    of_x, of_y, constant = factors.T[:, :, None, None]
    total: NDArray[np.float32] = of_x * x + (of_y * y + constant)
    return total


def _take_nearest(images: Images, xs: Places, ys: Places, result: Images) -> None:
    padded = _pad(images)
    xs, ys = np.rint(_held(xs, images.shape[2])), np.rint(_held(ys, images.shape[1]))
    places = _flat_places(xs, ys, channels=images.shape[3])
    values = padded.reshape(-1)
    for channel in range(images.shape[3]):
        result[..., channel] = values[channel:].take(places)


def _mix_nearest_four(images: Images, xs: Places, ys: Places, result: Images) -> None:
    padded = _pad(images).astype(np.float32)
    xs, ys = _held(xs, images.shape[2]), _held(ys, images.shape[1])
    left, upper = np.floor(xs), np.floor(ys)
    right_share, lower_share = xs - left, ys - upper
    places = _flat_places(left, upper, channels=images.shape[3])
    values = padded.reshape(-1)
    below = padded.shape[2] * images.shape[3]
    for channel in range(images.shape[3]):
        above, under = (
            _mix(
                values[start:].take(places),
                values[start + images.shape[3] :].take(places),
                right_share,
            )
            for start in (channel, channel + below)
        )
        result[..., channel] = np.rint(_mix(above, under, lower_share))


def _mix(
    one: NDArray[np.float32], other: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what lies between two values; changes `other`."""
    other -= one
    other *= share
    other += one
    return other


def _pad(images: Images) -> Images:
    """Put a black line before the images, and two behind: what lies outside is taken from there."""
    num_rows, height, width, channels = images.shape
    padded = np.zeros((num_rows, height + 3, width + 3, channels), np.uint8)
    padded[:, 1:-2, 1:-2] = images
    return padded


def _held(places: Places, size: int) -> Places:
    """Move what lies outside into the black line nearest to it."""
    return np.clip(places, -1, size)


def _flat_places(xs: Places, ys: Places, *, channels: int) -> NDArray[np.intp]:
    """Return where the first value of each pixel is in the padded images, seen as one line."""
    num_rows, height, width = xs.shape
    # Half the bytes of the integers that numpy wants in the end.
    places = ys.astype(np.int32)
    places += (np.arange(num_rows, dtype=np.int32) * (height + 3) + 1)[:, None, None]
    places *= width + 3
    places += xs.astype(np.int32)
    places += 1
    places *= channels
    return places.astype(np.intp)


def _warped(images: Tensor, matrices: NDArray[np.float32], interpolation: Interpolation) -> Tensor:
    """Do what `warp` does, step by step in the same roundings."""
    num_rows, height, width, channels = images.shape
    xs, ys = _places_of(matrices, images)
    padded = images.new_zeros((num_rows, height + 3, width + 3, channels))
    padded[:, 1:-2, 1:-2] = images
    pixels = padded.view(-1, channels)
    xs, ys = xs.clamp(-1, width), ys.clamp(-1, height)
    left, upper = (
        (xs.round(), ys.round()) if interpolation == "nearest" else (xs.floor(), ys.floor())
    )
    first = torch.arange(num_rows, device=images.device)[:, None, None] * (height + 3) + 1
    places = (first + upper.long()) * (width + 3) + left.long() + 1
    if interpolation == "nearest":
        return pixels[places]
    right, lower = (xs - left)[..., None], (ys - upper)[..., None]
    above, under = (
        _between(pixels[places + down].float(), pixels[places + down + 1].float(), right)
        for down in (0, width + 3)
    )
    return _between(above, under, lower).round().to(torch.uint8)


def _places_of(matrices: NDArray[np.float32], images: Tensor) -> tuple[Tensor, Tensor]:
    """Do what `_places` does."""
    _, height, width, _ = images.shape
    x = torch.arange(width, device=images.device, dtype=torch.float32)
    y = torch.arange(height, device=images.device, dtype=torch.float32)[:, None]
    a, b, c, d, e, f, g, h, i = moved(matrices, images)[:, :, None, None].unbind(1)
    xs, ys = a * x + (b * y + c), d * x + (e * y + f)
    if (matrices[:, 6:8] == 0).all():
        return xs, ys
    scale = g * x + (h * y + i)
    xs, ys = xs / scale, ys / scale
    somewhere = xs.isfinite() & ys.isfinite()
    nowhere = xs.new_full((), -2)
    return torch.where(somewhere, xs, nowhere), torch.where(somewhere, ys, nowhere)


def _between(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Do what `_mix` does; torch's own `lerp` rounds once less."""
    return (other - one) * share + one
