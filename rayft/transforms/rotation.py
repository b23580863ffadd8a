"""Turning each image about its centre by its own angle."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from rayft.transforms.operation import Pixels
from rayft.transforms.rng import Uniforms
from rayft.transforms.warp import affine_matrix, warp


@final
@dataclass(frozen=True, slots=True)
class Rotate:
    """Turns by up to `degrees`, bilinear, same size, corners black.

    Equals torchvision's v2 `rotate` on uint8 tensors within one grey level; see `warp`.
    """

    num_draws: ClassVar[int] = 1
    resizes: ClassVar[bool] = False
    degrees: float

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return each image, turned counter-clockwise by an angle in [-degrees, degrees).

        Args:
            images: [B, H, W, C].
            draws: [B, 1].

        Returns:
            [B, H, W, C].
        """
        height, width = images.shape[1:3]
        angles = self.degrees * (1 - 2 * draws[:, 0])  # clockwise
        matrices = [affine_matrix(height, width, degrees=angle) for angle in angles.tolist()]
        return warp(images, np.array(matrices, np.float32), interpolation="bilinear")
