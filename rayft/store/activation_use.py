"""Who uses a store of activations, and since when nobody does.

Below the folder of all stores:

    activations/KEY/            a store: its shards, and the manifest, which was written last
    activations/.KEY.part/      one that is being built on a local disk, or that was left unfinished
    activations/.uses/KEY/      a lock for everyone who uses it, and the time of its last use

In an object store one is built in its place, where it is none before its manifest. A use of a key
keeps the store from being removed, whether it is there, being built, or still to be built.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from rayft.errors import CacheError, Problem
from rayft.storage.location import Location
from rayft.storage.lock import Lock, locked
from rayft.store.activation_manifest import is_key

FOLDER = "activations"
USES = ".uses"
LAST_USE = "last.json"
_LOCK_SUFFIX = ".lock"
_LOOKS_AT_ONCE = 16

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Use:
    """A use of a key, while it lasts; it stays in its process."""

    store_root: Location
    """The folder of all stores."""
    key: str
    note: Location
    """The lock that tells others of this use."""
    held: Lock = field(repr=False, compare=False)

    @property
    def place(self) -> Location:
        """Where the store is, or will be."""
        return place_of(self.store_root, self.key)


def place_of(store_root: Location, key: str) -> Location:
    """Return where the store of a key is, or will be."""
    return store_root / FOLDER / key


def building_place_of(store_root: Location, key: str) -> Location:
    """Return where the store of a key is built: beside its place, or there in an object store."""
    if store_root.is_local:
        return store_root / FOLDER / f".{key}.part"
    return place_of(store_root, key)


def uses_of(store_root: Location, key: str) -> Location:
    """Return the folder that tells who uses the store of a key."""
    return store_root / FOLDER / USES / key


@contextmanager
def in_use(store_root: Location, key: str) -> Iterator[Use]:
    """Use the store of a key for the length of a `with` block: nobody removes it meanwhile.

    The use of a process that was killed ends with it, in an object store within a minute.

    Args:
        store_root: the folder of all stores.
        key: hexadecimal; the store may still have to be built.

    Raises:
        CacheError: the folder cannot be written, or the object store cannot be reached.
    """
    assert is_key(key), key
    note = uses_of(store_root, key) / f"{uuid4().hex}{_LOCK_SUFFIX}"
    with ExitStack() as stack:
        with cache_errors(store_root), bookkeeping(store_root):
            stack.callback(_forget, note)
            held = stack.enter_context(locked(note, holder=this_process(), wait=True))
            use = Use(store_root, key, note, held)
            touch(use)
        stack.callback(_end, use)
        yield use


def touch(use: Use) -> None:
    """Note that a store was used just now.

    Raises:
        OSError: it cannot be noted.
    """
    content = json.dumps({"time": time.time()}).encode()
    (uses_of(use.store_root, use.key) / LAST_USE).write_bytes(content)


def last_use(uses: Location) -> float:
    """Return when a store was last used, in seconds since 1970; 0 where nothing tells."""
    try:
        return float(json.loads((uses / LAST_USE).read_bytes())["time"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0.0


def is_use(name: str) -> bool:
    """Return whether a file among the uses is the lock of one."""
    return name.endswith(_LOCK_SUFFIX)


def holders_of(notes: Iterable[Location]) -> dict[Location, str]:
    """Return who holds each of these locks; delete those that nobody holds any more.

    A lease in an object store is known to live once it is renewed, in some seconds, and to be
    dead after a minute without. The caller holds `bookkeeping`, so that no use begins meanwhile.
    """
    asked = list(notes)
    if not asked:
        return {}
    with ThreadPoolExecutor(min(len(asked), _LOOKS_AT_ONCE)) as threads:
        found = zip(asked, threads.map(_holder, asked), strict=True)
        return {note: holder for note, holder in found if holder is not None}


def _holder(note: Location) -> str | None:
    try:
        with locked(note, holder=this_process(), wait=False):
            note.delete()
            return None
    except BlockingIOError as error:
        return error.strerror or "another process"
    except FileNotFoundError:
        # Its use ended, and took the file along, between the look and reading whose it was.
        return None


@contextmanager
def bookkeeping(store_root: Location) -> Iterator[None]:
    """Hold the lock under which uses begin, and stores are removed; short, and not nested."""
    lock = store_root / "locks" / f"{FOLDER}.lock"
    with locked(lock, holder=this_process(), wait=True):
        yield


@contextmanager
def cache_errors(place: Location) -> Iterator[None]:
    """Say of a disk or an object store that refuses: these activations cannot be kept.

    Raises:
        CacheError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        what = f"activations cannot be kept here: {error.strerror or error}"
        fix = "free space there, give the right to write, or choose another `storage_path`"
        raise CacheError(Problem(str(place), what, fix)) from error


def this_process() -> str:
    """Return how others are told of this process."""
    return f"process {os.getpid()} on {platform.node()}"


def _end(use: Use) -> None:
    """Note the end of a use as its last time; whoever used the store has what it wanted."""
    try:
        touch(use)
    except OSError as error:
        _logger.warning("%s: its last use could not be noted: %s", use.place, error.strerror)


def _forget(note: Location) -> None:
    try:
        note.delete()
    except OSError as error:
        # It is held by nobody, and whoever looks finds that.
        _logger.warning("%s could not be deleted: %s", note, error.strerror)
