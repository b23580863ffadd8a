"""Images that lie in tar files, read by their places: nothing is unpacked."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import final

import numpy as np
import numpy.typing as npt

from rayft.data.raw import MAX_FILE_BYTES, Raw, printable, too_many_bytes
from rayft.data.remote import read_ahead, refusing
from rayft.errors import DataError, Problem
from rayft.storage.location import FileState, Location
from rayft.storage.ranges import read_range
from rayft.transforms.decode import Unreadable

REQUEST_BYTES = 8 * 2**20
"""Images that lie side by side in an object are fetched together up to this size."""
GAP_BYTES = 256 * 2**10
"""Up to this many bytes between two images are fetched along with them."""
NOWHERE = -1
"""The place of an image that is not there."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TarPart:
    """A range of samples of one tar file."""

    file: str
    """Path relative to the reader's root."""
    names: tuple[str, ...]
    """[N] what the members of each sample share."""
    offsets: npt.NDArray[np.int64]
    """[N] first byte of each sample's image in the file; -1 where it has none."""
    sizes: npt.NDArray[np.int64]
    """[N] bytes of each sample's image."""
    listed: FileState | None
    """Size and version of an object when it was listed; None for a file on this machine."""

    def __getitem__(self, rows: slice) -> "TarPart":
        return replace(
            self, names=self.names[rows], offsets=self.offsets[rows], sizes=self.sizes[rows]
        )

    def places_sha256(self) -> str:
        """Return a hash of where the images lie."""
        places = np.stack([self.offsets, self.sizes]).astype("<i8")
        return hashlib.sha256(places.tobytes()).hexdigest()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TarRows:
    """Encoded images in members of tar files."""

    root: Location
    parts: tuple[TarPart, ...]
    extensions: str
    """What an image's member may end with, for messages."""

    def cut(self, start: int, stop: int) -> "TarRows":
        """Return the rows from `start` to `stop`."""
        parts, first = [], 0
        for part in self.parts:
            count = len(part.names)
            begin, end = max(0, start - first), min(count, stop - first)
            if begin < end:
                parts.append(part[begin:end])
            first += count
        return replace(self, parts=tuple(parts))

    def sources(self) -> list[str]:
        """Return where each row comes from."""
        return [printable(f"{part.file}#{name}") for part in self.parts for name in part.names]

    def files(self) -> list[str]:
        """Return every file, relative to `root`."""
        return [part.file for part in self.parts]

    def states(self) -> Mapping[str, FileState | None]:
        """Return what each file was when it was listed; nothing for files of this machine."""
        return {part.file: part.listed for part in self.parts if part.listed is not None}

    def read(self) -> Iterator[Raw]:
        """Read the rows in order, several at once from an object store.

        Raises:
            DataError: a file is gone or another since it was listed, or cannot be read.
        """
        return chain.from_iterable(self._read(part) for part in self.parts)

    def _read(self, part: TarPart) -> Iterator[Raw]:
        place = self.root / part.file
        if part.listed is None:
            images = _read_local(place, part)
        else:
            runs = _runs(part)
            found = read_ahead(lambda run: _read_run(place, run), runs, size_of=lambda r: r.length)
            images = chain.from_iterable(found)
        missing = Unreadable(f"the sample has no member that ends with {self.extensions}")
        return (missing if image is None else image for image in images)


def _read_local(place: Location, part: TarPart) -> Iterator[Raw | None]:
    try:
        with place.path.open("rb") as file:
            for offset, size in zip(part.offsets.tolist(), part.sizes.tolist(), strict=True):
                content = _unread(offset, size)
                if isinstance(content, bytes):
                    content = os.pread(file.fileno(), size, offset)
                    _check_length(content, size, place)
                yield content
    except OSError as error:
        what = f"it cannot be read: {error.strerror}"
        raise DataError(Problem(printable(str(place)), what, "make the file readable")) from error


def _unread(offset: int, size: int) -> Raw | None:
    """Return what an image is without reading it; no bytes where it must be read."""
    if offset == NOWHERE:
        return None
    return too_many_bytes(size) if size > MAX_FILE_BYTES else b""


def _check_length(content: bytes, size: int, place: Location) -> None:
    if len(content) != size:
        what = "it was cut short since it was listed"
        fix = "let whatever writes it finish, and run the command again"
        raise DataError(Problem(printable(str(place)), what, fix))


@final
@dataclass(frozen=True, slots=True)
class _Run:
    """Samples whose images lie so close that one request fetches them."""

    part: TarPart
    start: int
    stop: int
    """Bytes of the file from the first image's first to the last image's last."""

    @property
    def length(self) -> int:
        return self.stop - self.start


def _runs(part: TarPart) -> Iterator[_Run]:
    begin = start = stop = 0
    for index, (offset, size) in enumerate(zip(part.offsets, part.sizes, strict=True)):
        first, last = int(offset), int(offset + size)
        if first == NOWHERE or size > MAX_FILE_BYTES:
            continue
        if stop and (last - start > REQUEST_BYTES or first - stop > GAP_BYTES):
            yield _Run(part[begin:index], start, stop)
            begin, stop = index, 0
        start, stop = start if stop else first, last
    yield _Run(part[begin:], start, stop)


def _read_run(place: Location, run: _Run) -> list[Raw | None]:
    content = b""
    if run.length and run.part.listed is not None:
        with refusing(place):
            content = read_range(place, run.start, run.length, version=run.part.listed.version)
        _check_length(content, run.length, place)
    images: list[Raw | None] = []
    for offset, size in zip(run.part.offsets.tolist(), run.part.sizes.tolist(), strict=True):
        image = _unread(offset, size)
        begin = offset - run.start
        images.append(content[begin : begin + size] if isinstance(image, bytes) else image)
    return images
