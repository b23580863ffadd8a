"""What an augmentation is made of: an operation on a batch and its random numbers.

An operation is told the random numbers, it draws none. It treats each row by itself: row i of the
result depends on row i of the images and of the numbers alone, to the last bit. So arithmetic that
rounds is done by numpy functions of one rounding each; a fused or blocked one (a matrix product)
may round differently for another batch size.
"""

from collections.abc import Iterator
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from rayft.transforms.rng import Uniforms

Images = NDArray[np.uint8]
"""[B, H, W, C]; may be read-only."""

VALUES_IN_ONE_THREAD = 2**15 - 1
"""What torch works on in the calling thread; an operation on more it shares out to all its threads.

Augmentation has threads of its own, each with some rows. Theirs would have to wait for torch's,
and does so for ten times as long as the work takes where other work keeps the cores busy.
"""

_VALUES_PER_BLOCK = 2**17


class Operation(Protocol):
    """Changes each image of a batch by its own random numbers."""

    num_draws: ClassVar[int]
    """Random numbers that one row needs."""

    def __call__(self, images: Images, draws: Uniforms) -> Images:
        """Return the changed images; `images` is left as it is.

        Args:
            images: [B, H, W, C], B at least 1.
            draws: [B, num_draws].

        Returns:
            [B, H, W, C], in new memory; H and W may be new.
        """
        ...


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
