"""Turning each image about its centre by its own angle."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from rayft.transforms.operation import VALUES_IN_ONE_THREAD, Images
from rayft.transforms.rng import Uniforms


@final
@dataclass(frozen=True, slots=True)
class Rotate:
    """Turns by up to `degrees`, bilinear, same size, corners black.

    Equals torchvision's v2 `rotate` on uint8 tensors within one grey level: its coordinates come
    from a matrix product, whose last bits may differ from the sums here.
    """

    num_draws: ClassVar[int] = 1
    degrees: float

    def __call__(self, images: Images, draws: Uniforms) -> Images:
        """Return each image, turned counter-clockwise by an angle in [-degrees, degrees).

        Args:
            images: [B, H, W, C].
            draws: [B, 1].

        Returns:
            [B, H, W, C].
        """
        radians = np.deg2rad(self.degrees * (2 * draws[:, 0] - 1))
        result = np.empty(images.shape, np.uint8)
        num_rows = max(1, VALUES_IN_ONE_THREAD // (4 * images[0, :, :, 0].size))
        for start in range(0, len(images), num_rows):
            rows = slice(start, start + num_rows)
            grid = _source_grid(radians[rows], height=images.shape[1], width=images.shape[2])
            values = torch.from_numpy(images[rows].astype(np.float32)).permute(0, 3, 1, 2)
            turned = F.grid_sample(
                values, torch.from_numpy(grid), padding_mode="zeros", align_corners=False
            ).numpy()
            result[rows] = np.rint(turned, out=turned).transpose(0, 2, 3, 1)
        return result


def _source_grid(radians: NDArray[np.float64], *, height: int, width: int) -> NDArray[np.float32]:
    """Return [B, H, W, 2]: for each pixel the x and y it comes from, -1 to 1 over the image."""
    # Not numpy's sine and cosine: they round differently with other vector instructions, and a
    # batch may be made on either of two kinds of node.
    cosine, sine = (
        np.array([function(angle) for angle in radians.tolist()], np.float32)[:, None, None]
        for function in (math.cos, math.sin)
    )
    x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32((height - 1) / 2)
    grid = np.empty((len(radians), height, width, 2), np.float32)
    np.multiply(cosine * x - sine * y, np.float32(2 / width), out=grid[..., 0])
    np.multiply(sine * x + cosine * y, np.float32(2 / height), out=grid[..., 1])
    return grid
