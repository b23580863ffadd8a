"""What a source's row store is known by: the content of its files, not their place or age.

Reading every byte of a large source takes minutes, so hashes of files are remembered under
`store_root` with size and times of each file, and read again only where those have changed.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from rayft.data.listing import Listing
from rayft.data.readers import FileRows, ParquetRows, Raw, Reader, ValueRows, open_regular
from rayft.storage.commit import write_file_atomically
from rayft.store.manifest import FORMAT_VERSION
from rayft.store.shards import rows_per_shard
from rayft.transforms.decode import DECODER_VERSION, ResizeMode, Unreadable

HASH_THREADS = 8
_UNREADABLE = "!"

State = tuple[int, int, int]
"""Size, and times of the last change of content and of inode, in nanoseconds."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigests:
    """The hashes of a source's files, as far as they are known."""

    root: str
    states: dict[str, State | None]
    """State of each file when it was looked at; None where it cannot be."""
    known: dict[str, str]
    """SHA-256 of each file; `!` and the reason where it cannot be read."""

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
        return [file for file, state in self.states.items() if _state(self.root, file) != state]


def remembered_digests(reader: Reader, *, store_root: Path) -> FileDigests:
    """Return the hashes that are known without reading a file of the source."""
    states = {file: _state(reader.root, file) for file in reader.files()}
    memory = _load(_index_path(reader, store_root)) if states else {}
    known = {}
    for file, state in states.items():
        entry = memory.get(file)
        if state is None:
            known[file] = f"{_UNREADABLE}it does not exist, or its folder cannot be entered"
        elif entry is not None and tuple(entry[:3]) == state:
            known[file] = str(entry[3])
    return FileDigests(root=reader.root, states=states, known=known)


def digest_files(reader: Reader, *, store_root: Path) -> FileDigests:
    """Return the hashes of all files of a source, and remember them under `store_root`."""
    digests = remembered_digests(reader, store_root=store_root)
    pending = digests.pending
    if pending:
        confined = isinstance(reader, FileRows) and reader.confined
        root = os.path.realpath(reader.root)
        with ThreadPoolExecutor(HASH_THREADS) as threads:
            found = threads.map(lambda file: _sha256(root, file, confined=confined), pending)
            digests.known.update(zip(pending, found, strict=True))
        _save(_index_path(reader, store_root), digests)
    return digests


def store_key(
    listing: Listing, digests: FileDigests, *, stored_size: int, resize: ResizeMode
) -> str:
    """Return the name of the row store of a source: a hash of all that its bytes follow from.

    Paths enter relative to the source's own folder, so a copy elsewhere has the same key.

    Args:
        listing: the source's rows.
        digests: the hashes of its files, none pending.
        stored_size: height and width of the stored images in pixels.
        resize: how an image becomes square.
    """
    settings = {
        "format": [FORMAT_VERSION, DECODER_VERSION, rows_per_shard(stored_size)],
        "image": [stored_size, resize],
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


def _identity(reader: Reader, digests: FileDigests) -> Iterable[str]:
    if isinstance(reader, ValueRows):
        yield from (_value_sha256(value) for value in reader.values)
        return
    if isinstance(reader, ParquetRows):
        yield f"{reader.column!r} {reader.in_struct}"
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


def _state(root: str, file: str) -> State | None:
    try:
        found = os.stat(os.path.join(root, file))  # noqa: PTH116, PTH118  fast, one per row
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _sha256(root: str, file: str, *, confined: bool) -> str:
    descriptor = open_regular(root, file, confined=confined)
    if isinstance(descriptor, Unreadable):
        return _UNREADABLE + descriptor.reason
    try:
        with open(descriptor, "rb") as opened:  # noqa: PTH123  a descriptor has no path
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return f"{_UNREADABLE}it cannot be read: {error.strerror}"


def _index_path(reader: Reader, store_root: Path) -> Path:
    place = hashlib.sha256(os.fsencode(os.path.realpath(reader.root))).hexdigest()[:24]
    return store_root / "digests" / f"{place}.json"


def _load(index: Path) -> dict[str, list[object]]:
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # It only saves time: without it every file is read again.
        return {}
    return entries if isinstance(entries, dict) else {}


def _save(index: Path, digests: FileDigests) -> None:
    # Sources that share a folder share an index: keep what the others remember.
    entries = _load(index)
    for file, digest in digests.known.items():
        state = digests.states[file]
        if state is not None:
            entries[file] = [*state, digest]
    index.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(index, json.dumps(entries).encode())
