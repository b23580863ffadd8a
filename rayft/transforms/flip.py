"""Mirroring: a share of the rows is turned over, the others are copied."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.operation import VALUES_IN_ONE_THREAD, Pixels, change_rows
from rayft.transforms.rng import Uniforms


@final
@dataclass(frozen=True, slots=True)
class FlipHorizontally:
    """Mirrors left and right; the same bytes as torchvision's `hflip`."""

    num_draws: ClassVar[int] = 1
    resizes: ClassVar[bool] = False
    probability: float

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return a copy in which the rows that drew below `probability` are mirrored.

        Args:
            images: [B, H, W, C].
            draws: [B, 1].

        Returns:
            [B, H, W, C].
        """
        chosen = draws[:, 0] < self.probability
        if isinstance(images, Tensor):
            return change_rows(images, np.flatnonzero(chosen), lambda some: some.flip(2))
        result = np.empty(images.shape, np.uint8)
        for row, is_mirrored in enumerate(chosen.tolist()):
            if is_mirrored:
                _mirror(images[row], result[row])
            else:
                result[row] = images[row]
        return result


@final
@dataclass(frozen=True, slots=True)
class FlipVertically:
    """Mirrors top and bottom; the same bytes as torchvision's `vflip`."""

    num_draws: ClassVar[int] = 1
    resizes: ClassVar[bool] = False
    probability: float

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return a copy in which the rows that drew below `probability` are mirrored.

        Args:
            images: [B, H, W, C].
            draws: [B, 1].

        Returns:
            [B, H, W, C].
        """
        mirrored = np.flatnonzero(draws[:, 0] < self.probability)
        if isinstance(images, Tensor):
            return change_rows(images, mirrored, lambda some: some.flip(1))
        result = images.copy()
        result[mirrored] = images[mirrored, ::-1]
        return result


def _mirror(image: NDArray[np.uint8], result: NDArray[np.uint8]) -> None:
    """Reverse each line of pixels of an image [H, W, C].

    torch reverses pixels of a few bytes with vector instructions, numpy one by one.
    """
    num_lines = max(1, VALUES_IN_ONE_THREAD // max(1, image[0].size))
    for start in range(0, len(image), num_lines):
        lines = image[start : start + num_lines]
        # torch warns of memory that it may not write to, though it would not.
        given = lines if lines.flags.writeable else lines.copy()
        result[start : start + num_lines] = torch.from_numpy(given).flip(1).numpy()
