"""Padding each image and cutting its size at a random place."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np

from rayft.transforms.operation import Images
from rayft.transforms.rng import Uniforms


@final
@dataclass(frozen=True, slots=True)
class CropRandomly:
    """Pads each side and cuts the original size; the same bytes as torchvision's `pad` + `crop`."""

    num_draws: ClassVar[int] = 2
    resizes: ClassVar[bool] = False
    padding: int
    padding_mode: Literal["constant", "reflect"]

    def __call__(self, images: Images, draws: Uniforms) -> Images:
        """Return a window of each padded image.

        Args:
            images: [B, H, W, C].
            draws: [B, 2]; the window's top and left, as shares of the `2 * padding + 1` places.

        Returns:
            [B, H, W, C].
        """
        height, width = images.shape[1:3]
        places = (draws * (2 * self.padding + 1)).astype(np.int64).tolist()
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
