"""How large images are stored, so that training can cut from them."""

import math

from rayft.spec.augment import RandomResizedCrop
from rayft.spec.run import RunSpec


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
