"""Rows on their way to the model: a batch at a time, decoded as evaluation decodes them."""

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from rayft.data.raw import Raw
from rayft.data.readers import FileRows
from rayft.data.remote import LOOKUPS, look_up_all
from rayft.spec.data import RGB, ResizeMode
from rayft.storage.location import Location
from rayft.transforms.augment import center_crop
from rayft.transforms.decode import Pixels, Unreadable, decode_image, decode_verified

_GUARDED = Lock()
"""`decode_image` changes the filters of warnings for a moment, which are those of all threads."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RawBatch:
    """Rows as they come from the input."""

    read: Callable[[], Iterable[Raw]]
    """Gives the image of each row, not yet decoded; whoever decodes calls it, once."""
    carried: Any
    """Table of the columns that go through to the output, [num_rows]."""
    num_rows: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How an image file becomes what the model sees."""

    image_size: int
    """Height and width that leave."""
    stored_size: int
    """Height and width to which an image is resized before its centre is cut out."""
    resize: ResizeMode
    channels: int = RGB

    def decode(self, rows: Iterable[Raw], images: NDArray[np.uint8]) -> list[str | None]:
        """Decode rows into the first slots of `images`, in the calling thread.

        Args:
            rows: at most as many as there are slots.
            images: [n, image_size, image_size, channels]; slots of rows that cannot be read stay as
                they are.

        Returns:
            For each row why it cannot be read, or None.
        """
        errors: list[str | None] = []
        for slot, raw in zip(images, rows, strict=False):
            pixels = self._pixels(raw)
            if isinstance(pixels, Unreadable):
                errors.append(pixels.reason)
            else:
                slot[...] = center_crop(pixels[None], self.image_size)[0]
                errors.append(None)
        return errors

    def _pixels(self, raw: Raw) -> Pixels | Unreadable:
        if not isinstance(raw, bytes):
            assert isinstance(raw, Unreadable)
            return raw
        try:
            return decode_verified(
                raw, size=self.stored_size, resize=self.resize, channels=self.channels
            )
        except Exception:  # noqa: BLE001  hostile bytes make decoders raise anything at all
            with _GUARDED:
                return decode_image(
                    raw, size=self.stored_size, resize=self.resize, channels=self.channels
                )


def reading_named(root: Location, names: Sequence[str | None]) -> Callable[[], Iterable[Raw]]:
    """Return what reads the image files that a column names, for a `RawBatch`.

    Objects are fetched at once, because whoever decodes must not wait for the network.

    Raises:
        DataError: an object store cannot be reached.
    """
    if root.is_local:
        return partial(read_named, root, names)
    return list(read_named(root, names)).__iter__


def read_named(root: Location, names: Sequence[str | None]) -> Iterator[Raw]:
    """Read the image files that a column names, in order.

    A name that is empty or leads out of `root` is that row's own fault.

    Args:
        root: the folder that relative names start from, and that all must lie in.
        names: [n] paths or addresses.

    Raises:
        DataError: an object store cannot be reached.
    """
    for first in range(0, len(names), LOOKUPS):
        yield from _read_few(root, names[first : first + LOOKUPS])


def _read_few(root: Location, names: Sequence[str | None]) -> Iterator[Raw]:
    paths = [_inside(root, name or "") for name in names]
    inside = tuple(path for path in paths if path is not None)
    listed = None
    if not root.is_local:
        states = look_up_all(root, inside)
        listed = tuple(states.get(path) for path in inside)
    found = FileRows(root=root, paths=inside, confined=True, listed=listed).read()
    for name, path in zip(names, paths, strict=True):
        if path is not None:
            yield next(found)
        elif name:
            yield Unreadable(f"{name!r} does not lie in {root}")
        else:
            yield Unreadable("the row names no image")


def _inside(root: Location, name: str) -> str | None:
    """Return a name relative to `root`; None where it is empty or leads out of it."""
    start = root.url.rstrip("/") + "/"
    if root.is_local:
        full = os.path.normpath(os.path.join(root.url, name))  # noqa: PTH118  one call per row
    elif "://" in name:
        scheme, _, rest = name.partition("://")
        full = f"{scheme}://{posixpath.normpath(rest)}"
    else:
        full = start + posixpath.normpath(name)
    path = full.removeprefix(start)
    lies_inside = name and full.startswith(start) and not path.startswith(("../", "/"))
    return path if lies_inside and path not in ("..", ".") else None
