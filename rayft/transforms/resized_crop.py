"""Cutting a random part of each image and resizing it to the size of the model's input."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.operation import Pixels
from rayft.transforms.resize import resize_boxes
from rayft.transforms.rng import Uniforms

NUM_ATTEMPTS = 10


@final
@dataclass(frozen=True, slots=True)
class CropAndResizeRandomly:
    """Cuts a random area and aspect ratio; resizes bilinearly, with antialiasing.

    Boxes follow the law of torchvision's `RandomResizedCrop`, pixels are those of its v2
    `resized_crop` on uint8 tensors (tested to one grey level; the same kernel computes both).

    Source:
        Szegedy et al. 2015 (https://arxiv.org/abs/1409.4842), section 6.
    """

    num_draws: ClassVar[int] = 2 * NUM_ATTEMPTS + 2
    resizes: ClassVar[bool] = True
    scale: tuple[float, float]
    ratio: tuple[float, float]
    image_size: int

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return the random part of each image.

        Rows of an array are resized one by one, each from a box of its own size. Two batched
        matrix products were measured to take half as long at 32 pixels but 4 times as long at 96
        and 20 times at 224; and their last bits may depend on the batch.

        Args:
            images: [B, H, W, C].
            draws: [B, 22]; areas and log ratios of ten attempts, then top and left.

        Returns:
            [B, image_size, image_size, C].
        """
        num_rows, *_, channels = images.shape
        boxes = self.boxes(draws, height=images.shape[1], width=images.shape[2])
        if isinstance(images, Tensor):
            return resize_boxes(images, boxes, size=self.image_size)
        result = np.empty((num_rows, self.image_size, self.image_size, channels), np.uint8)
        for row, (top, left, height, width) in enumerate(boxes.tolist()):
            part = images[row, top : top + height, left : left + width]
            result[row] = part if height == width == self.image_size else self._resize(part)
        return result

    def _resize(self, part: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize one image [h, w, C]; torch does this in one thread, but copies in many."""
        chw = torch.from_numpy(part[None].copy()).permute(0, 3, 1, 2)
        size = (self.image_size, self.image_size)
        resized = F.interpolate(chw, size=size, mode="bilinear", antialias=True)
        return resized[0].permute(1, 2, 0).numpy()

    def boxes(self, draws: Uniforms, *, height: int, width: int) -> NDArray[np.int64]:
        """Choose the part of each image, as torchvision does.

        The first of ten attempts that fits counts. If none does, the middle is taken, as large
        as `ratio` allows.

        Args:
            draws: [B, 22].
            height: of the images, in pixels.
            width: of the images, in pixels.

        Returns:
            [B, 4] top, left, height and width, in pixels.
        """
        area = height * width * _between(self.scale, draws[:, :NUM_ATTEMPTS])
        log_ratio = _between(np.log(self.ratio), draws[:, NUM_ATTEMPTS : 2 * NUM_ATTEMPTS])
        ratio = np.exp(log_ratio)
        attempts = np.stack((np.sqrt(area / ratio), np.sqrt(area * ratio)), axis=2)
        sizes = np.rint(attempts).astype(np.int64)  # [B, attempts, 2]
        fits = ((sizes > 0) & (sizes <= (height, width))).all(axis=2)
        chosen = sizes[np.arange(len(draws)), fits.argmax(axis=1)]
        space = np.array((height, width)) - chosen
        places = (draws[:, -2:] * (space + 1)).astype(np.int64)
        boxes = np.concatenate((places, chosen), axis=1)
        return np.where(fits.any(axis=1, keepdims=True), boxes, self._middle(height, width))

    def _middle(self, height: int, width: int) -> NDArray[np.int64]:
        box_height, box_width = height, width
        if width / height < self.ratio[0]:
            box_height = max(1, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            box_width = max(1, round(height * self.ratio[1]))
        return np.array(
            ((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)
        )


def _between(
    ends: tuple[float, float] | NDArray[np.float64], uniforms: Uniforms
) -> NDArray[np.float64]:
    low, high = ends
    return low + (high - low) * uniforms
