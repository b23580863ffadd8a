"""Looking at each image from its own angle: its corners move inwards."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from rayft.transforms.operation import Pixels, change_rows
from rayft.transforms.rng import Uniforms
from rayft.transforms.warp import Interpolation, warp

Corners = NDArray[np.float64]
"""[B, 4, 2], x and y of upper left, upper right, lower right and lower left."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePerspective:
    """Moves the corners of a share of the images inwards; what is uncovered is black.

    Corners follow the law of torchvision's `RandomPerspective`; see `warp` for the pixels.
    """

    num_draws: ClassVar[int] = 9
    resizes: ClassVar[bool] = False
    distortion: float
    probability: float
    interpolation: Interpolation

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return a copy in which the rows that drew below `probability` are changed.

        Args:
            images: [B, H, W, C].
            draws: [B, 9]; the first decides, the others move the corners, x before y.

        Returns:
            [B, H, W, C].
        """
        rows = np.flatnonzero(draws[:, 0] < self.probability)
        height, width = images.shape[1:3]
        corners = self.corners(draws[rows, 1:], height=height, width=width)
        matrices = perspective_matrices(corners, height=height, width=width)
        return change_rows(
            images, rows, lambda some: warp(some, matrices, interpolation=self.interpolation)
        )

    def corners(self, draws: Uniforms, *, height: int, width: int) -> Corners:
        """Return where the corners go, in whole pixels.

        Args:
            draws: [B, 8].
            height: of the images.
            width: of the images.
        """
        size = np.array((width, height))
        moved = np.floor(draws.reshape(-1, 4, 2) * ((self.distortion * (size // 2)) // 1 + 1))
        far = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        return np.where(far, size - 1 - moved, moved)


def perspective_matrices(corners: Corners, *, height: int, width: int) -> NDArray[np.float32]:
    """Return the matrices [B, 9] that lead from images with moved corners back to the images.

    In closed form: a solver of linear equations may round differently on another machine.

    Source:
        Heckbert 1989, "Fundamentals of Texture Mapping and Image Warping", section 2.2.3.

    Args:
        corners: where the corners of the images are in the result.
        height: of the images.
        width: of the images.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners.transpose(1, 2, 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        det = (x1 - x2) * (y3 - y2) - (x3 - x2) * (y1 - y2)
        sum_x, sum_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
        g = (sum_x * (y3 - y2) - (x3 - x2) * sum_y) / det
        h = ((x1 - x2) * sum_y - sum_x * (y1 - y2)) / det
        a, b = x1 - x0 + g * x1, x3 - x0 + h * x3
        d, e = y1 - y0 + g * y1, y3 - y0 + h * y3
        # From the unit square to the corners is (a b x0, d e y0, g h 1); this is its adjugate.
        last = a * e - b * d
        across, down = (width - 1) / last, (height - 1) / last
        rows = (
            ((e - y0 * h) * across, (x0 * h - b) * across, (b * y0 - x0 * e) * across),
            ((y0 * g - d) * down, (a - x0 * g) * down, (x0 * d - a * y0) * down),
            ((d * h - e * g) / last, (b * g - a * h) / last, np.ones_like(last)),
        )
        return _between_middles(np.array(rows)).astype(np.float32)


def _between_middles(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Go from corners of pixels, where torchvision measures, to their middles.

    Args:
        rows: [3, 3, B].

    Returns:
        [B, 9].
    """
    rows[:, 2] += (rows[:, 0] + rows[:, 1]) / 2
    rows[:2] -= rows[2] / 2
    return rows.transpose(2, 0, 1).reshape(-1, 9)
