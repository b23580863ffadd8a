"""Image files to one array of a batch, by several threads; pixel for pixel as `decode_image`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from rayft.spec.data import ResizeMode
from rayft.transforms.decode import Unreadable, decode_image


def decode_batch(
    contents: Sequence[bytes | memoryview], *, size: int, resize: ResizeMode, threads: int
) -> NDArray[np.uint8]:
    """Decode image files.

    Args:
        contents: [N] the bytes of the files.
        size: height and width of the result in pixels.
        resize: how an image becomes square.
        threads: threads that decode, at least 1; they change no byte.

    Returns:
        [N, size, size, 3] RGB.

    Raises:
        ValueError: a file cannot be decoded.
    """
    result = np.empty((len(contents), size, size, 3), np.uint8)

    def decode(place: int) -> None:
        pixels = decode_image(bytes(contents[place]), size=size, resize=resize)
        if isinstance(pixels, Unreadable):
            raise ValueError(f"image {place} of the batch: {pixels.reason}")
        result[place] = pixels

    if threads == 1:
        for place in range(len(contents)):
            decode(place)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, range(len(contents))))
    return result
