"""Where the members of a tar file lie, and the labels among them. Nothing is unpacked.

Members are grouped as WebDataset does it: those that stand side by side and share their name up
to the first dot of its last part are one sample, and the rest of the name says what each is. Only
labels are read, as text or JSON; members of other kinds, pickles among them, are passed over.
"""

import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast, final

from rayft.data.labels import capped
from rayft.data.raw import printable
from rayft.data.remote import read_problem
from rayft.data.tar_members import MAX_LABEL_BYTES, member_fault, read_label, split_name
from rayft.data.tar_rows import NOWHERE
from rayft.errors import DataError, Problem
from rayft.storage.location import Changed, FileState, Location, StorageFault
from rayft.storage.ranges import StreamedFile

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_DAMAGE = (tarfile.TarError, ValueError, IndexError, OverflowError, EOFError)
"""What the standard library's reader raises over hostile bytes."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which members of a sample count."""

    images: tuple[str, ...]
    """Extensions of the image; the first that a sample has counts."""
    label: str
    """Extension of the label."""
    label_key: str | None
    """Where the label is JSON: the key of the class."""


@final
@dataclass(slots=True)
class TarIndex:
    """The samples of one tar file, in their order."""

    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    """First byte of each sample's image; -1 where it has none."""
    sizes: list[int] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    extensions: list[str] = field(default_factory=list)
    """What members of the first samples end with."""


def index_tar(place: Location, listed: FileState | None, wanted: Wanted) -> TarIndex:
    """Read the index of a tar file.

    Args:
        place: the file.
        listed: size and version of an object; None for a file on this machine.
        wanted: which members count.

    Raises:
        DataError: it is no plain tar file, is damaged or cut short, holds what no data set
            should (links, devices, paths that leave it), or its samples are not in order.
    """
    where = printable(str(place))
    try:
        size = place.path.stat().st_size if listed is None else listed.size
        with _opened(place, listed) as file:
            try:
                return _Indexing(where, file, size, wanted).all()
            except _DAMAGE as error:
                file.seek(0)
                raise DataError(_no_tar(where, file.read(8), error)) from error
    except OSError as error:
        if not place.is_local and isinstance(error, Changed | FileNotFoundError | StorageFault):
            raise DataError(read_problem(place, error)) from error
        what = f"it cannot be read: {error.strerror or error}"
        raise DataError(Problem(where, what, "make the file readable")) from error


def _opened(place: Location, listed: FileState | None) -> AbstractContextManager[BinaryIO]:
    if listed is None:
        return place.path.open("rb")
    return cast(AbstractContextManager[BinaryIO], StreamedFile(place.bucket, place.key, listed))


def _no_tar(where: str, start: bytes, error: Exception) -> Problem:
    for magic, kind in _PACKED.items():
        if start.startswith(magic):
            what = f"it is packed with {kind}, and images in it cannot be reached by their places"
            return Problem(where, what, "unpack it to a plain .tar; images are packed already")
    if not start:
        return Problem(where, "the file is empty", "write it again, or take it out of the source")
    if "end of data" in str(error):
        return _cut_short(where)
    what = f"it is no tar file, or its start is damaged: {error}"
    return Problem(where, what, "write it again, or take it out of the source")


def _cut_short(where: str) -> Problem:
    what = "it is cut short: its end is missing"
    return Problem(where, what, "copy or write it again, or take it out of the source")


@final
class _Indexing:
    """One walk through a tar file."""

    def __init__(self, where: str, file: BinaryIO, size: int, wanted: Wanted) -> None:
        self._where = where
        self._file = file
        self._size = size
        self._wanted = wanted
        self._index = TarIndex()
        self._seen: set[str] = set()
        self._members: dict[str, tarfile.TarInfo] = {}
        self._refused: list[str] = []
        self._scattered: list[str] = []
        self._unclear: list[str] = []

    def all(self) -> TarIndex:
        """Walk through it.

        Raises:
            DataError: with everything that is wrong with it.
        """
        name = None
        for member in self._walk():
            if (fault := member_fault(member)) is not None:
                self._refused.append(f"{printable(member.name)} ({fault})")
            elif member.isfile() and (split := split_name(member.name)) is not None:
                if split[0] != name:
                    self._finish(name)
                    name = split[0]
                self._add(split, member)
        self._finish(name)
        if problems := list(self._problems()):
            raise DataError(*problems)
        return self._index

    def _walk(self) -> Iterator[tarfile.TarInfo]:
        with tarfile.open(fileobj=self._file, mode="r:") as tar:
            passed = 0
            while (member := tar.next()) is not None:
                if member.size < 0 or member.offset_data <= passed:
                    raise DataError(self._damaged(member.offset))
                if member.offset_data + member.size > self._size:
                    raise DataError(_cut_short(self._where))
                passed = member.offset_data
                yield member
                # The reader would keep every member that it has passed.
                cast(Any, tar).members.clear()
            self._file.seek(tar.offset)
            if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise DataError(self._bad_end(tar.offset))

    def _bad_end(self, offset: int) -> Problem:
        if offset + tarfile.BLOCKSIZE > self._size:
            return _cut_short(self._where)
        return self._damaged(offset)

    def _damaged(self, offset: int) -> Problem:
        what = f"it is damaged at byte {offset:,}, where a member should start"
        return Problem(self._where, what, "write it again, or take it out of the source")

    def _add(self, split: tuple[str, str], member: tarfile.TarInfo) -> None:
        name, extension = split
        if extension in self._members:
            self._scattered.append(printable(name))
        self._members[extension] = member

    def _finish(self, name: str | None) -> None:
        """Take the sample whose members have all been seen."""
        if name is None:
            return
        if name in self._seen:
            self._scattered.append(printable(name))
        self._seen.add(name)
        images = (self._members.get(extension) for extension in self._wanted.images)
        image = next((member for member in images if member is not None), None)
        self._index.names.append(name)
        self._index.offsets.append(NOWHERE if image is None else image.offset_data)
        self._index.sizes.append(0 if image is None else image.size)
        self._index.labels.append(self._label())
        if len(self._seen) <= 100:
            known = self._index.extensions
            self._index.extensions = list(dict.fromkeys([*known, *self._members]))
        self._members = {}

    def _label(self) -> str | None:
        member = self._members.get(self._wanted.label)
        if member is None:
            return None
        try:
            # One byte more than is allowed tells that it is too long.
            self._file.seek(member.offset_data)
            content = self._file.read(min(member.size, MAX_LABEL_BYTES + 1))
            return read_label(content, self._wanted.label_key)
        except ValueError as error:
            self._unclear.append(f"{printable(member.name)} ({error})")
            return None

    def _problems(self) -> Iterator[Problem]:
        if self._refused:
            what = f"{len(self._refused)} members do not belong there: {capped(self._refused)}"
            fix = "write it again with plain files only, their names relative and inside of it"
            yield Problem(self._where, what, fix)
        if self._scattered:
            names = list(dict.fromkeys(self._scattered))
            what = (
                f"members of {len(names)} samples do not stand side by side, or are there twice: "
                f"{capped(names)}"
            )
            yield Problem(self._where, what, "write it again in the order of names: `--sort=name`")
        if self._unclear:
            what = f"{len(self._unclear)} labels cannot be told: {capped(self._unclear)}"
            yield Problem(self._where, what, "mend them, or set `label` to another extension")
