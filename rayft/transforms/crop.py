"""Padding each image and cutting its size at a random place."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from rayft.transforms.operation import Images
from rayft.transforms.rng import Uniforms


@final
@dataclass(frozen=True, slots=True)
class CropRandomly:
    """Pads each side and cuts the original size; the same bytes as torchvision's `pad` + `crop`."""

    num_draws: ClassVar[int] = 2
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
        top, left = (draws * (2 * self.padding + 1)).astype(np.int64).T
        return _cut(self._pad(images), top, left, self.padding)

    def _pad(self, images: Images) -> Images:
        pad = self.padding
        num_rows, height, width, channels = images.shape
        padded = np.zeros((num_rows, height + 2 * pad, width + 2 * pad, channels), np.uint8)
        padded[:, pad:-pad, pad:-pad] = images
        if self.padding_mode == "reflect":
            _reflect(padded, pad)
            _reflect(padded.swapaxes(1, 2), pad)
        return padded


def _reflect(padded: Images, pad: int) -> None:
    """Fill the first and last `pad` lines of axis 1 with what lies behind the border line."""
    padded[:, :pad] = padded[:, pad + 1 : 2 * pad + 1][:, ::-1]
    padded[:, -pad:] = padded[:, -2 * pad - 1 : -pad - 1][:, ::-1]


def _cut(padded: Images, top: NDArray[np.int64], left: NDArray[np.int64], pad: int) -> Images:
    """Copy each image's window, a whole line of pixels at a time.

    Any line of a window is one run of bytes. Seen as an array of overlapping runs, one for each
    pixel it could start at, the batch is cut by a single gather.
    """
    num_rows, tall, wide, channels = padded.shape
    height, width = tall - 2 * pad, wide - 2 * pad
    runs: NDArray[np.void] = np.ndarray(
        (num_rows * tall * wide - width + 1,),
        np.dtype((np.void, width * channels)),
        buffer=padded,
        strides=(channels,),
    )
    lines = (np.arange(num_rows) * tall + top)[:, None] + np.arange(height)
    starts = lines * wide + left[:, None]
    windows: Images = runs[starts].view(np.uint8).reshape(num_rows, height, width, channels)
    return windows
