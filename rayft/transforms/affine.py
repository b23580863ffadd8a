"""Turning, shifting, scaling and shearing each image by its own amounts."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from rayft.transforms.operation import Pixels
from rayft.transforms.rng import Uniforms
from rayft.transforms.warp import Interpolation, Matrix, affine_matrix, warp


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAffinely:
    """Turns, shifts, scales and shears about the middle; what is uncovered is black.

    Amounts follow the law of torchvision's `RandomAffine`; see `warp` for the pixels.
    """

    num_draws: ClassVar[int] = 6
    resizes: ClassVar[bool] = False
    degrees: float
    translate: tuple[float, float]
    scale: tuple[float, float]
    shear: tuple[float, float]
    interpolation: Interpolation

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return each image, moved by its own amounts.

        Args:
            images: [B, H, W, C].
            draws: [B, 6], for the angle, the shift along x and y, the scale, the shear along x
                and y.

        Returns:
            [B, H, W, C].
        """
        height, width = images.shape[1:3]
        matrices = [self._matrix(row, height, width) for row in draws.tolist()]
        return warp(images, np.array(matrices, np.float32), interpolation=self.interpolation)

    def _matrix(self, draws: list[float], height: int, width: int) -> Matrix:
        turn, x, y, scale, shear_x, shear_y = draws
        return affine_matrix(
            height,
            width,
            degrees=_within(self.degrees, turn),
            translate=(
                round(_within(self.translate[0] * width, x)),
                round(_within(self.translate[1] * height, y)),
            ),
            scale=self.scale[0] + (self.scale[1] - self.scale[0]) * scale,
            shear=(_within(self.shear[0], shear_x), _within(self.shear[1], shear_y)),
        )


def _within(largest: float, uniform: float) -> float:
    return largest * (2 * uniform - 1)
