"""Images of any number of channels, as people can look at them."""

import numpy as np

from rayft.spec.data import RGB
from rayft.transforms.operation import Images


def as_shown(images: Images) -> Images:
    """Return the first three channels as red, green and blue; of one or two the first, as grey.

    Args:
        images: [..., C].

    Returns:
        [..., 3].
    """
    return images[..., :RGB] if images.shape[-1] >= RGB else np.repeat(images[..., :1], RGB, -1)


def shown_in_words(channels: int) -> str:
    """Say what of the channels is seen, where it is not all."""
    match channels:
        case 1 | 3:
            return ""
        case 2:
            return "the first of 2 channels is shown"
        case _:
            return f"the first 3 of {channels} channels are shown"
