"""Padding each image and cutting its size at a random place."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.operation import Images, Pixels, moved
from rayft.transforms.rng import Uniforms


@final
@dataclass(frozen=True, slots=True)
class CropRandomly:
    """Pads each side and cuts the original size; the same bytes as torchvision's `pad` + `crop`."""

    num_draws: ClassVar[int] = 2
    resizes: ClassVar[bool] = False
    padding: int
    padding_mode: Literal["constant", "reflect"]

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return a window of each padded image.

        Args:
            images: [B, H, W, C].
            draws: [B, 2]; the window's top and left, as shares of the `2 * padding + 1` places.

        Returns:
            [B, H, W, C].
        """
        corners = (draws * (2 * self.padding + 1)).astype(np.int64)
        if isinstance(images, Tensor):
            reflects = self.padding_mode == "reflect"
            return _windows(images, corners - self.padding, reflects=reflects)
        height, width = images.shape[1:3]
        places = corners.tolist()
        if self.padding_mode == "reflect":
            padded = _pad_with_reflection(images, self.padding)
            result = np.empty(images.shape, np.uint8)
            for row, (top, left) in enumerate(places):
                result[row] = padded[row, top : top + height, left : left + width]
            return result
        result = np.zeros(images.shape, np.uint8)
        for row, (top, left) in enumerate(places):
            lines, seen_lines = _overlap(top - self.padding, height)
            columns, seen_columns = _overlap(left - self.padding, width)
            result[row, lines, columns] = images[row, seen_lines, seen_columns]
        return result


def _overlap(start: int, size: int) -> tuple[slice, slice]:
    """Return which part of a window shows the image, and which part of the image that is.

    Args:
        start: where the window begins; below 0 it begins outside.
        size: of the image and of the window.
    """
    first = max(0, -start)
    last = max(first, size - max(0, start))
    return slice(first, last), slice(first + start, last + start)


def _windows(images: Tensor, corners: NDArray[np.int64], *, reflects: bool) -> Tensor:
    """Return a window of each image, as large as the image, from the corner [B, 2] on."""
    num_rows, height, width, _ = images.shape
    tops, lefts = moved(corners, images).unbind(1)
    ys = tops[:, None] + torch.arange(height, device=images.device)
    xs = lefts[:, None] + torch.arange(width, device=images.device)
    rows = torch.arange(num_rows, device=images.device)[:, None, None]
    if reflects:
        return images[rows, _reflected(ys, height)[:, :, None], _reflected(xs, width)[:, None]]
    seen = ((ys >= 0) & (ys < height))[:, :, None] & ((xs >= 0) & (xs < width))[:, None]
    window = images[rows, ys.clamp(0, height - 1)[:, :, None], xs.clamp(0, width - 1)[:, None]]
    return window * seen[..., None]


def _reflected(places: Tensor, size: int) -> Tensor:
    """Return which place of the image is seen at a place up to `size` - 1 outside of it."""
    return (size - 1) - ((size - 1) - places.abs()).abs()


def _pad_with_reflection(images: Images, pad: int) -> Images:
    num_rows, height, width, channels = images.shape
    padded = np.empty((num_rows, height + 2 * pad, width + 2 * pad, channels), np.uint8)
    padded[:, pad:-pad, pad:-pad] = images
    _reflect(padded, pad)
    _reflect(padded.swapaxes(1, 2), pad)
    return padded


def _reflect(padded: Images, pad: int) -> None:
    """Fill the first and last `pad` lines of axis 1 with what lies behind the border line."""
    padded[:, :pad] = padded[:, pad + 1 : 2 * pad + 1][:, ::-1]
    padded[:, -pad:] = padded[:, -2 * pad - 1 : -pad - 1][:, ::-1]
