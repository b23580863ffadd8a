"""What a reader gives for a row, and how places are written for people."""

import numpy as np
import numpy.typing as npt

from rayft.transforms.decode import Unreadable

Raw = bytes | npt.NDArray[np.uint8] | Unreadable
"""A row's image before decoding."""

MAX_FILE_BYTES = 512 * 2**20
"""Most bytes of one image that are read."""


def printable(path: str) -> str:
    """Return a path as valid text, whatever bytes the file system holds."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def too_many_bytes(size: int) -> Unreadable:
    """Say that an image's file is larger than what is read."""
    return Unreadable(f"it has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
