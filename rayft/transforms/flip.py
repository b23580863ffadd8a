"""Mirroring: a share of the rows is turned over, the others are copied."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from rayft.transforms.operation import VALUES_IN_ONE_THREAD, Images
from rayft.transforms.rng import Uniforms


@final
@dataclass(frozen=True, slots=True)
class FlipHorizontally:
    """Mirrors left and right; the same bytes as torchvision's `hflip`."""

    num_draws: ClassVar[int] = 1
    probability: float

    def __call__(self, images: Images, draws: Uniforms) -> Images:
        """Return a copy in which the rows that drew below `probability` are mirrored.

        Args:
            images: [B, H, W, C].
            draws: [B, 1].

        Returns:
            [B, H, W, C].
        """
        mirrored = np.flatnonzero(draws[:, 0] < self.probability)
        result = images.copy()
        parts = np.ascontiguousarray(images[mirrored])
        _mirror_lines(parts.reshape(-1, *images.shape[2:]))
        result[mirrored] = parts
        return result


@final
@dataclass(frozen=True, slots=True)
class FlipVertically:
    """Mirrors top and bottom; the same bytes as torchvision's `vflip`."""

    num_draws: ClassVar[int] = 1
    probability: float

    def __call__(self, images: Images, draws: Uniforms) -> Images:
        """Return a copy in which the rows that drew below `probability` are mirrored.

        Args:
            images: [B, H, W, C].
            draws: [B, 1].

        Returns:
            [B, H, W, C].
        """
        mirrored = np.flatnonzero(draws[:, 0] < self.probability)
        result = images.copy()
        result[mirrored] = images[mirrored, ::-1]
        return result


def _mirror_lines(lines: NDArray[np.uint8]) -> None:
    """Reverse each line of pixels [lines, W, C], in place.

    torch reverses pixels of a few bytes with vector instructions, numpy one by one.
    """
    num_lines = max(1, VALUES_IN_ONE_THREAD // max(1, lines[:1].size))
    for start in range(0, len(lines), num_lines):
        some = lines[start : start + num_lines]
        some[...] = torch.from_numpy(some).flip(1).numpy()
