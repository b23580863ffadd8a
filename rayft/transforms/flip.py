"""Mirroring: a share of the rows is turned over, the others are copied."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from rayft.transforms.operation import Images
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
        # torch reverses pixels of a few bytes with vector instructions, numpy one by one.
        result[mirrored] = torch.from_numpy(images[mirrored]).flip(2).numpy()
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
