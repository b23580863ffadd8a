"""What an augmentation is made of: an operation on a batch and its random numbers.

An operation takes images of either kind: arrays of numpy, or tensors of torch on any device. Random
numbers are arrays of numpy, and what follows from them is worked out once for both; only the
functions that touch pixels have a version for each kind. The one for tensors does the same
arithmetic in the same order and never waits for the device.

An operation is told the random numbers, it draws none. It treats each row by itself: row i of the
result depends on row i of the images and of the numbers alone, to the last bit. So arithmetic that
rounds is done by numpy functions of one rounding each; a fused or blocked one (a matrix product)
may round differently for another batch size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.rng import Uniforms

Images = NDArray[np.uint8]
"""[B, H, W, C]; may be read-only."""

Pixels = TypeVar("Pixels", NDArray[np.uint8], Tensor)
"""[B, H, W, C] uint8, of numpy or of torch; may be read-only."""

VALUES_IN_ONE_THREAD = 2**15 - 1
"""What torch works on in the calling thread; an operation on more it shares out to all its threads.

Augmentation has threads of its own, each with some rows. Theirs would have to wait for torch's,
and does so for ten times as long as the work takes where other work keeps the cores busy.
"""

_VALUES_PER_BLOCK = 2**17

_COPIED_AT_ONCE = 2**16
"""Bytes that CUDA takes over at once; a copy of more would wait, unless its memory is pinned."""


class Operation(Protocol):
    """Changes each image of a batch by its own random numbers."""

    @property
    def num_draws(self) -> int:
        """Random numbers that one row needs."""
        ...

    resizes: ClassVar[bool]
    """Whether it takes images of any size and gives them the model's; others keep the size."""

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return the changed images; `images` is left as it is.

        Args:
            images: [B, H, W, C], B at least 1.
            draws: [B, num_draws].

        Returns:
            [B, H, W, C], in new memory; H and W may be new.
        """
        ...


def check_rgb(images: Images | Tensor, operation: str) -> None:
    """Refuse images that are not red, green and blue.

    Raises:
        ValueError: naming the operation that needs them.
    """
    if images.shape[3] != 3:
        raise ValueError(f"{operation} needs RGB images, got {images.shape[3]} channels; remove it")


@final
@dataclass(frozen=True, slots=True)
class ChangeSome:
    """Changes a share of the rows in a way that needs no random numbers, and copies the others."""

    num_draws: ClassVar[int] = 1
    resizes: ClassVar[bool] = False
    probability: float
    change: "Rule"
    """Gives the changed images, as an operation does."""

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return a copy in which the rows that drew below `probability` are changed.

        Args:
            images: [B, H, W, C].
            draws: [B, 1].

        Returns:
            [B, H, W, C].
        """
        chosen = draws[:, 0] < self.probability
        return change_rows(images, np.flatnonzero(chosen), self.change)


class Rule(Protocol):
    """Changes all images of a batch."""

    def __call__(self, images: Pixels, /) -> Pixels:
        """Return the changed images [B, H, W, C] in new memory."""
        ...


def change_rows(
    images: Pixels, rows: NDArray[np.intp], change: Callable[[Pixels], Pixels]
) -> Pixels:
    """Return a copy of the images in which some are changed, all of these together.

    Args:
        images: [B, H, W, C].
        rows: [n] places of the images to change.
        change: gives the changed images [n, H, W, C]; not called where n is 0.

    Returns:
        [B, H, W, C].
    """
    if isinstance(images, Tensor):
        changed = images.clone()
        if len(rows):
            places = moved(rows, images)
            changed[places] = change(images[places])
        return changed
    result = images.copy()
    if len(rows):
        result[rows] = change(images[rows])
    return result


def moved(numbers: NDArray[np.generic], images: Tensor) -> Tensor:
    """Return numbers of the rows as a tensor where the images are, without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(numbers))
    if images.is_cuda and tensor.nbytes > _COPIED_AT_ONCE:
        tensor = tensor.pin_memory()
    return tensor.to(images.device, non_blocking=True)


def row_blocks(images: Images) -> Iterator[slice]:
    """Cut a batch into blocks of rows whose float32 copies stay in a core's cache.

    Args:
        images: [B, H, W, C].

    Yields:
        Slices that cover the B rows in order, each of at least one row.
    """
    num_rows = max(1, _VALUES_PER_BLOCK // images[0].size)
    for start in range(0, len(images), num_rows):
        yield slice(start, start + num_rows)
