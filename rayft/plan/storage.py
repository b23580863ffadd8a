"""How large images are stored, so that training can cut from them, and in which form."""

import math
from typing import Literal

from rayft.spec.augment_motion import RandomResizedCrop
from rayft.spec.data import FILE_CHANNELS, DataSpec
from rayft.spec.run import RunSpec

_MOST_DECODED_BYTES = 16 * 2**30
"""Of one source, for `stored_as: auto`. Beyond it a disk read often costs more than decoding."""


def stored_size(spec: RunSpec, *, image_size: int) -> int:
    """Return height and width in pixels of the images in the row store.

    Images are stored at the size the backbone sees. `random_resized_crop` needs room around it:
    8/7, the classic 256 for 224; evaluation then takes the centre.
    """
    if isinstance(spec.data.stored_size, int):
        return spec.data.stored_size
    if any(isinstance(operation, RandomResizedCrop) for operation in spec.augment):
        return math.ceil(image_size * 8 / 7)
    return image_size


def traveling_size(spec: RunSpec, *, image_size: int) -> int:
    """Return height and width in pixels of the training images that travel to a device."""
    return stored_size(spec, image_size=image_size) if spec.augment_on == "device" else image_size


def stored_as(data: DataSpec, *, num_rows: int, stored_size: int) -> Literal["decoded", "encoded"]:
    """Return what the row store of a source of `num_rows` rows holds.

    Images of channels that no file holds can only be stored decoded.
    """
    if data.stored_as != "auto":
        return data.stored_as
    is_small = num_rows * stored_size**2 * data.channels <= _MOST_DECODED_BYTES
    return "decoded" if is_small or data.channels not in FILE_CHANNELS else "encoded"
