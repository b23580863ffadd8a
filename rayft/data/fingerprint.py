"""What a source's row store is known by: the content of its files, not their place or age.

Reading every byte of a large source takes minutes, so hashes of files are remembered under
`store_root` with size and times of each file, and read again only where those have changed.

Files of an object store are known by their place, size and version (ETag) as listed, not by a
hash: to hash them would download everything twice. So a copy on a disk, or in another bucket, has
a key of its own and is prepared again.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np

from rayft.data.form import Form
from rayft.data.listing import Listing
from rayft.data.raw import MAX_FILE_BYTES
from rayft.data.readers import (
    FileRows,
    ParquetRows,
    Raw,
    Reader,
    TarRows,
    ValueRows,
    open_regular,
)
from rayft.data.remote import look_up_all
from rayft.spec.data import RGB
from rayft.storage.location import FileState, Location
from rayft.store.manifest import FORMAT_VERSION
from rayft.transforms.decode import DECODER_VERSION, Unreadable

HASH_THREADS = 8
_UNREADABLE = "!"

State = tuple[int, int, int]
"""Size, and times of the last change of content and of inode, in nanoseconds."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigests:
    """The hashes of a source's files, as far as they are known."""

    root: Location | None
    """The folder of the files; None where there are none."""
    states: dict[str, State | FileState | None]
    """State of each file when it was looked at; None where it cannot be."""
    known: dict[str, str]
    """SHA-256 of each file, or size and version of an object; `!` and the reason where it cannot
    be read."""

    @property
    def pending(self) -> list[str]:
        """Files that must be read to know their hash."""
        return [file for file in self.states if file not in self.known]

    @property
    def unreadable(self) -> dict[str, str]:
        """Files that cannot be read, with the reason."""
        return {
            file: digest.removeprefix(_UNREADABLE)
            for file, digest in self.known.items()
            if digest.startswith(_UNREADABLE)
        }

    def changed(self) -> list[str]:
        """Return the files that are no longer as they were when they were looked at."""
        if self.root is None:
            return []
        now = _states(self.root, self.states)
        return [file for file, state in self.states.items() if now[file] != state]


def remembered_digests(reader: Reader, *, store_root: Location) -> FileDigests:
    """Return the hashes that are known without reading a file of the source."""
    root = reader.root
    if root is None:
        return FileDigests(root=None, states={}, known={})
    if not root.is_local:
        return _listed_digests(reader, root)
    states = _states(root, reader.files())
    memory = _load(_index_place(root, store_root)) if states else {}
    known = {}
    for file, state in states.items():
        entry = memory.get(file)
        if state is None:
            known[file] = f"{_UNREADABLE}it does not exist, or its folder cannot be entered"
        elif entry is not None and tuple(entry[:3]) == state:
            known[file] = str(entry[3])
    return FileDigests(root=root, states=states, known=known)


def _listed_digests(reader: Reader, root: Location) -> FileDigests:
    states: dict[str, State | FileState | None] = {}
    states.update(reader.states())
    known = {
        file: f"{_UNREADABLE}it does not exist"
        if state is None
        else f"{state.size} {state.version}"
        for file, state in reader.states().items()
    }
    return FileDigests(root=root, states=states, known=known)


def digest_files(reader: Reader, *, store_root: Location) -> FileDigests:
    """Return the hashes of all files of a source, and remember them under `store_root`."""
    digests = remembered_digests(reader, store_root=store_root)
    pending = digests.pending
    if pending and digests.root is not None:
        confined = isinstance(reader, FileRows) and reader.confined
        # A file of one image may only be so large; one of many images is hashed whatever its size.
        limit = MAX_FILE_BYTES if isinstance(reader, FileRows) else None
        root = os.path.realpath(digests.root.path)
        with ThreadPoolExecutor(HASH_THREADS) as threads:
            found = threads.map(
                lambda file: _sha256(root, file, confined=confined, limit=limit), pending
            )
            digests.known.update(zip(pending, found, strict=True))
        _save(_index_place(digests.root, store_root), digests)
    return digests


def store_key(listing: Listing, digests: FileDigests, *, form: Form, rows_per_shard: int) -> str:
    """Return the name of the row store of a source: a hash of all that its bytes follow from.

    Paths enter relative to the source's own folder, so a copy elsewhere has the same key.

    Args:
        listing: the source's rows.
        digests: the hashes of its files, none pending.
        form: how images are stored.
        rows_per_shard: rows in every shard but the last.
    """
    image: list[str | int] = [form.stored_as, form.stored_size, form.resize]
    if form.channels != RGB:
        # Stores of RGB keep the key that they had before there were others.
        image.append(form.channels)
    settings = {
        "format": [FORMAT_VERSION, DECODER_VERSION, rows_per_shard],
        "image": image,
        "classes": listing.classes,
        "grouped": listing.groups is not None,
    }
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update(listing.labels.codes.astype("<i4").tobytes())
    if listing.groups is not None:
        digest.update(listing.groups.astype("<u8").tobytes())
    for line in _identity(listing.reader, digests):
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def source_bytes(reader: Reader, digests: FileDigests) -> int:
    """Return the bytes of a source's images as they come."""
    if isinstance(reader, ValueRows):
        return sum(_value_bytes(value) for value in reader.values)
    if isinstance(reader, TarRows):
        return sum(int(part.sizes.sum()) for part in reader.parts)
    return sum(_size(state) for state in digests.states.values() if state is not None)


def _size(state: State | FileState) -> int:
    return state.size if isinstance(state, FileState) else state[0]


def _value_bytes(value: Raw) -> int:
    match value:
        case Unreadable():
            return 0
        case np.ndarray():
            return value.nbytes
        case _:
            return len(value)


def _identity(reader: Reader, digests: FileDigests) -> Iterable[str]:
    if isinstance(reader, ValueRows):
        yield from (_value_sha256(value) for value in reader.values)
        return
    if isinstance(reader, ParquetRows):
        yield f"{reader.column!r} {reader.in_struct}"
    if isinstance(reader, TarRows):
        yield from (f"{part.file!r} {part.places_sha256()}" for part in reader.parts)
    if not reader.root.is_local:
        yield f"listed in {reader.root}"
    for file in reader.files():
        known = digests.known[file]
        yield f"{file!r} {_UNREADABLE if known.startswith(_UNREADABLE) else known}"


def _value_sha256(value: Raw) -> str:
    match value:
        case Unreadable():
            return _UNREADABLE
        case np.ndarray():
            shape = f"array {value.shape}".encode()
            return hashlib.sha256(shape + value.tobytes()).hexdigest()
        case _:
            return hashlib.sha256(b"bytes" + value).hexdigest()


def _states(root: Location, files: Iterable[str]) -> dict[str, State | FileState | None]:
    if root.is_local:
        return {file: _state(root.url, file) for file in files}
    wanted = list(files)
    found = look_up_all(root, wanted)
    return {file: found.get(file) for file in wanted}


def _state(root: str, file: str) -> State | None:
    try:
        found = os.stat(os.path.join(root, file))  # noqa: PTH116, PTH118  fast, one per row
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _sha256(root: str, file: str, *, confined: bool, limit: int | None) -> str:
    descriptor = open_regular(root, file, confined=confined, limit=limit)
    if isinstance(descriptor, Unreadable):
        return _UNREADABLE + descriptor.reason
    try:
        with open(descriptor, "rb") as opened:  # noqa: PTH123  a descriptor has no path
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return f"{_UNREADABLE}it cannot be read: {error.strerror}"


def _index_place(root: Location, store_root: Location) -> Location:
    place = hashlib.sha256(os.fsencode(os.path.realpath(root.path))).hexdigest()[:24]
    return store_root / "digests" / f"{place}.json"


def _load(index: Location) -> dict[str, list[object]]:
    try:
        entries = json.loads(index.read_bytes())
    except (OSError, ValueError):
        # It only saves time: without it every file is read again.
        return {}
    return entries if isinstance(entries, dict) else {}


def _save(index: Location, digests: FileDigests) -> None:
    # Sources that share a folder share an index: keep what the others remember.
    entries = _load(index)
    for file, digest in digests.known.items():
        state = digests.states[file]
        if isinstance(state, tuple):
            entries[file] = [*state, digest]
    index.write_bytes(json.dumps(entries).encode())
