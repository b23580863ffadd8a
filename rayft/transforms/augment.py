"""From stored images to the size the model sees: the `augment:` list, or the middle to evaluate.

What comes out for a row depends on the row, the seed, the epoch and the list, and on nothing else:
not on the rows beside it, their order, the process or its number of threads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.plan.borders import check_borders
from rayft.spec.augment import AugmentSpec
from rayft.spec.data import RGB
from rayft.transforms.blocks import run_in_blocks
from rayft.transforms.build import make_operation
from rayft.transforms.operation import Images, Operation
from rayft.transforms.rng import Epoch, Uniforms, operation_uniforms

Load = Callable[[slice], Images]
"""Gives the images [n, H, W, C] of some rows of a batch; called from several threads at once."""

VALUES_ON_DEVICE = 2**24
"""What an operation changes at once where a tensor is; a handful of copies have four bytes each."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random changes to training images, in a fixed order; see `make_augmentation`."""

    operations: tuple[Operation, ...]
    image_size: int
    seed: int

    def __call__(self, images: Images, row_ids: NDArray[np.int64], *, epoch: Epoch) -> Images:
        """Return one version of each image, the same one for the same row and epoch.

        An operation's random numbers are keyed by its place in the list, so two flips in one
        list draw differently.

        Args:
            images: [B, H, W, C] stored images, left as they are; `image_size` high and wide,
                unless the list resizes them.
            row_ids: [B] ids of the rows.
            epoch: from 0, for all rows, or [B] for each; in a cache of the frozen prefix, the
                number of the view.

        Returns:
            [B, image_size, image_size, C]; `images` itself where the list is empty.

        Raises:
            ValueError: the images are not uint8 of four axes, have another size, or are not as
                many as `row_ids`.
        """
        self._check_ids(images, row_ids)
        if not self.operations:
            return images
        result = self._empty(len(images), channels=images.shape[3])
        self._fill(result, images.__getitem__, row_ids, epoch=epoch, threads=1)
        return result

    def of_loaded(
        self,
        load: Load,
        row_ids: NDArray[np.int64],
        *,
        epoch: Epoch,
        threads: int,
        channels: int = RGB,
    ) -> Images:
        """Do the same with images that are loaded a few at a time, as they are needed.

        Args:
            load: gives the stored images [n, H, W, channels] of some rows.
            row_ids: [B] ids of the rows.
            epoch: as above.
            threads: threads that load and change images, at least 1; they change no byte.
            channels: those of the images.

        Returns:
            [B, image_size, image_size, channels].

        Raises:
            ValueError: as above.
            Exception: what `load` raised.
        """
        result = self._empty(len(row_ids), channels=channels)
        self._fill(result, load, row_ids, epoch=epoch, threads=threads)
        return result

    def of_tensor(self, images: Tensor, row_ids: NDArray[np.int64], *, epoch: Epoch) -> Tensor:
        """Do the same where a tensor is: the same bytes, without waiting for its device.

        Args:
            images: [B, H, W, C] stored images, left as they are.
            row_ids: [B] ids of the rows.
            epoch: as above.

        Returns:
            [B, image_size, image_size, C] on the device of `images`; `images` itself where the list
            is empty.

        Raises:
            ValueError: as above.
        """
        self._check_ids(images, row_ids)
        if not self.operations:
            return images
        if not len(row_ids):
            return images.new_empty((0, self.image_size, self.image_size, images.shape[3]))
        draws = self._draws(row_ids, epoch)
        values = max(images[0].numel(), self.image_size**2 * images.shape[3])
        num_rows = max(1, VALUES_ON_DEVICE // values)
        parts = []
        for start in range(0, len(row_ids), num_rows):
            rows = slice(start, start + num_rows)
            part = images[rows]
            for operation, uniforms in zip(self.operations, draws, strict=True):
                part = operation(part, uniforms[rows])
            parts.append(part)
        return torch.cat(parts)

    def _draws(self, row_ids: NDArray[np.int64], epoch: Epoch) -> list[Uniforms]:
        nums = [operation.num_draws for operation in self.operations]
        return operation_uniforms(self.seed, epoch, row_ids, nums=nums)

    def _empty(self, num_rows: int, *, channels: int) -> Images:
        return np.empty((num_rows, self.image_size, self.image_size, channels), np.uint8)

    def _fill(
        self,
        result: Images,
        load: Load,
        row_ids: NDArray[np.int64],
        *,
        epoch: Epoch,
        threads: int,
    ) -> None:
        if not len(row_ids):
            return
        draws = self._draws(row_ids, epoch)

        def make(rows: slice) -> None:
            images = load(rows)
            self._check(images)
            for operation, uniforms in zip(self.operations, draws, strict=True):
                images = operation(images, uniforms[rows])
            result[rows] = images

        run_in_blocks(make, len(row_ids), bytes_per_row=result[0].nbytes, threads=threads)

    def _check_ids(self, images: Images | Tensor, row_ids: NDArray[np.int64]) -> None:
        if row_ids.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images need as many ids, got {list(row_ids.shape)}")
        self._check(images)

    def _check(self, images: Images | Tensor) -> None:
        if images.dtype not in (np.uint8, torch.uint8) or images.ndim != 4:
            raise ValueError(
                f"images must be uint8 [B, H, W, C], got {images.dtype} {list(images.shape)}"
            )
        resizes = any(operation.resizes for operation in self.operations)
        height, width = images.shape[1:3]
        if not resizes and (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"images are {height} x {width} pixels, but without a random_resized_crop they "
                f"must be stored at image_size, {self.image_size} x {self.image_size}"
            )


def make_augmentation(
    specs: tuple[AugmentSpec, ...], *, image_size: int, seed: int
) -> Augmentation:
    """Build the `augment:` list.

    Args:
        specs: the operations, in the order of their use.
        image_size: height and width that leave, in pixels.
        seed: the run's seed.

    Returns:
        A function of a batch, its row ids and the epoch.

    Raises:
        SpecError: an image is too small for its border to be mirrored as far as an operation needs.
    """
    check_borders(specs, image_size=image_size)
    operations = tuple(make_operation(spec, image_size=image_size) for spec in specs)
    return Augmentation(operations=operations, image_size=image_size, seed=seed)


def center_crop(images: Images, size: int) -> Images:
    """Return the middle of each image, where torchvision's `center_crop` finds it.

    Args:
        images: [B, H, W, C].
        size: height and width of the middle, in pixels.

    Returns:
        [B, size, size, C], a view of `images`.

    Raises:
        ValueError: the images are smaller than `size`.
    """
    height, width = images.shape[1:3]
    if min(height, width) < size:
        raise ValueError(
            f"cannot cut {size} x {size} pixels from images of {height} x {width}; store them "
            f"at {size} pixels or more"
        )
    top, left = round((height - size) / 2), round((width - size) / 2)
    return images[:, top : top + size, left : left + size]
