"""Image files to one array, in one thread or in several; pixel for pixel as `decode_image`."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import final

import numpy as np
from numpy.typing import NDArray

from rayft.spec.data import RGB, ResizeMode
from rayft.transforms.blocks import run_in_blocks
from rayft.transforms.decode import Pixels, Unreadable, decode_image, decode_verified

_GUARDED = Lock()
"""`decode_image` changes the filters of warnings for a moment, which are those of all threads."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedImages:
    """The images of a batch as files that were verified when the data set was prepared.

    Call it with a slice to decode some of them: a `Load` for `Augmentation.of_loaded`.
    """

    contents: Sequence[bytes | memoryview]
    """[N] the bytes of the files."""
    size: int
    """Height and width of the decoded images in pixels."""
    resize: ResizeMode
    """How an image becomes square; see `resize_to_square`."""
    channels: int = RGB
    """As in `decode_image`."""

    def __call__(self, rows: slice) -> NDArray[np.uint8]:
        """Decode the images of a slice with a start and an end, in the calling thread.

        Returns:
            [n, size, size, channels], each image as `decode_image` gives it.

        Raises:
            ValueError: a file cannot be decoded any more; says which of the batch.
        """
        result = np.empty((rows.stop - rows.start, self.size, self.size, self.channels), np.uint8)
        self.decode_into(result, rows)
        return result

    def decode_into(self, result: NDArray[np.uint8], rows: slice) -> None:
        """Do the same, into an array of that shape."""
        for place, pixels in zip(range(rows.start, rows.stop), result, strict=True):
            pixels[...] = self._decode(place)

    def _decode(self, place: int) -> Pixels:
        content = self.contents[place]
        try:
            return decode_verified(
                content, size=self.size, resize=self.resize, channels=self.channels
            )
        except Exception:  # noqa: BLE001  damaged bytes make decoders raise anything at all
            with _GUARDED:
                pixels = decode_image(
                    bytes(content), size=self.size, resize=self.resize, channels=self.channels
                )
        if not isinstance(pixels, Unreadable):
            return pixels
        raise ValueError(f"image {place} of the batch is damaged: {pixels.reason}")


def decode_batch(
    contents: Sequence[bytes | memoryview],
    *,
    size: int,
    resize: ResizeMode,
    threads: int,
    channels: int = RGB,
) -> NDArray[np.uint8]:
    """Decode files that were verified when the data set was prepared.

    Pillow decodes without holding Python's global lock, so threads run side by side.

    Args:
        contents: [N] the bytes of the files.
        size: height and width of the result in pixels.
        resize: how an image becomes square; see `resize_to_square`.
        threads: threads that decode, at least 1; they change no byte.
        channels: as in `decode_image`.

    Returns:
        [N, size, size, channels], each image as `decode_image` gives it.

    Raises:
        ValueError: a file cannot be decoded any more; says which.
    """
    images = EncodedImages(contents=contents, size=size, resize=resize, channels=channels)
    result = np.empty((len(contents), size, size, channels), np.uint8)
    run_in_blocks(
        lambda rows: images.decode_into(result[rows], rows),
        len(contents),
        bytes_per_row=channels * size * size,
        threads=threads,
    )
    return result
