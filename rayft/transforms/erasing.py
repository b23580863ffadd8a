"""Painting a random box of each image over."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.operation import Pixels, moved
from rayft.transforms.rng import Uniforms

NUM_ATTEMPTS = 10
_WORD = 2**32

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""

Filling = int | NDArray[np.uint8]
"""One value, or those [height, width, C] of a box."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EraseRandomly:
    """Fills a box of a share of the images with one value or with noise.

    Boxes follow the law of torchvision's `RandomErasing`. Its values are those of the tensor it is
    given, often normalised already; here they are pixels.

    Source:
        Zhong et al. 2020 (https://arxiv.org/abs/1708.04896), algorithm 1.
    """

    num_draws: ClassVar[int] = 2 * NUM_ATTEMPTS + 5
    resizes: ClassVar[bool] = False
    probability: float
    scale: tuple[float, float]
    ratio: tuple[float, float]
    value: int | Literal["random"]

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return a copy in which the rows that drew below `probability` have lost a box.

        Args:
            images: [B, H, W, C].
            draws: [B, 25]; the first decides, ten are for areas, ten for ratios, then top and
                left, then two for the noise.

        Returns:
            [B, H, W, C].
        """
        rows = np.flatnonzero(draws[:, 0] < self.probability)
        numbers = draws[rows, 1:].tolist()
        boxes = [self.box(each, images.shape[1], images.shape[2]) for each in numbers]
        fillings = [
            self._filling(each[-2:], (box[2], box[3], images.shape[3]))
            for each, box in zip(numbers, boxes, strict=True)
        ]
        if isinstance(images, Tensor):
            return _painted(images, rows, boxes, fillings)
        result = images.copy()
        for row, box, filling in zip(rows.tolist(), boxes, fillings, strict=True):
            top, left, height, width = box
            result[row, top : top + height, left : left + width] = filling
        return result

    def box(self, draws: list[float], height: int, width: int) -> "Box":
        """Choose a box: the first of ten attempts that is smaller than the image along both sides.

        Args:
            draws: 22 or more numbers.
            height: of the image.
            width: of the image.

        Returns:
            Top, left, height and width in pixels; an empty box where no attempt fits.
        """
        log_ratios = math.log(self.ratio[0]), math.log(self.ratio[1])
        for attempt in range(NUM_ATTEMPTS):
            area = height * width * _between(self.scale, draws[attempt])
            ratio = math.exp(_between(log_ratios, draws[NUM_ATTEMPTS + attempt]))
            tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if tall < height and wide < width:
                top, left = draws[2 * NUM_ATTEMPTS : 2 * NUM_ATTEMPTS + 2]
                return int(top * (height - tall + 1)), int(left * (width - wide + 1)), tall, wide
        return 0, 0, 0, 0

    def _filling(self, draws: list[float], shape: tuple[int, ...]) -> "Filling":
        if self.value != "random":
            return self.value
        # The bytes of a counter-based generator again, with this row's numbers as its key.
        key = np.array([int(draw * _WORD) for draw in draws], np.uint64)
        size = math.prod(shape)
        words: NDArray[np.uint64] = np.random.Philox(key=key).random_raw(-(-size // 8))
        return words.astype("<u8").view(np.uint8)[:size].reshape(shape)


def _painted(
    images: Tensor, rows: NDArray[np.intp], boxes: list[Box], fillings: list[Filling]
) -> Tensor:
    """Return a copy with a box of each of some rows filled."""
    result = images.clone()
    if not boxes:
        return result
    y = torch.arange(images.shape[1], device=images.device)[:, None, None]
    x = torch.arange(images.shape[2], device=images.device)[:, None]
    top, left, height, width = moved(np.array(boxes), images)[:, :, None, None, None].unbind(1)
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
    flat = np.concatenate([np.asarray(each, np.uint8).reshape(-1) for each in fillings])
    values = moved(flat, images)
    if isinstance(fillings[0], int):
        painted = values[:, None, None, None]
    else:
        starts = np.cumsum([0, *(np.size(each) for each in fillings[:-1])])
        channel = torch.arange(images.shape[3], device=images.device)
        place = ((y - top) * width + (x - left)) * images.shape[3] + channel
        place += moved(starts, images)[:, None, None, None]
        # What lies outside of a box is looked up as well, and not used.
        painted = torch.cat((values, values.new_zeros(1)))[place.clamp(0, len(flat))]
    places = moved(rows, images)
    result[places] = torch.where(inside, painted, images[places])
    return result


def _between(ends: tuple[float, float], uniform: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * uniform
