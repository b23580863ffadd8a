"""Which stores of activations there are: whole, unfinished and damaged ones."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from rayft.errors import DataError
from rayft.storage.location import Location
from rayft.storage.state import FileEntry
from rayft.store.activation_manifest import (
    ActivationManifest,
    ActivationType,
    is_key,
    load_activation_manifest,
)
from rayft.store.activation_request import REQUEST_NAME, ActivationRequest
from rayft.store.activation_use import (
    FOLDER,
    USES,
    building_place_of,
    is_use,
    last_use,
    place_of,
    uses_of,
)
from rayft.store.manifest import MANIFEST_NAME

StoreState = Literal["whole", "unfinished", "damaged"]
"""`damaged` is one whose manifest cannot be read; damaged shards are found by reading them."""

_READS_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreEntry:
    """A store of activations, as a list shows it."""

    key: str
    state: StoreState
    about: Mapping[str, str]
    """What it was made from; empty where nothing tells."""
    shape: tuple[int, ...]
    dtype: ActivationType | None
    num_rows: int
    """Rows that it has, or is to have."""
    stored_bytes: int
    """Bytes of its files."""
    expected_bytes: int
    """Bytes that it will have: those that it has, where it is whole."""
    last_used: float
    """Seconds since 1970; 0 where nothing tells."""
    notes: tuple[Location, ...]
    """Locks of its uses; some may be left from processes that were killed."""


@dataclass(slots=True)
class _Found:
    """What the files of a key come to."""

    stored_bytes: int = 0
    is_whole: bool = False
    notes: tuple[Location, ...] = ()


def list_stores(store_root: Location) -> tuple[StoreEntry, ...]:
    """Return all stores of activations below the folder of all stores, sorted by key.

    Raises:
        OSError: the folder cannot be read.
    """
    found = _found(store_root, (store_root / FOLDER).files())
    # A use of a key of which there is nothing yet is no store.
    keys = sorted(key for key, files in found.items() if files.stored_bytes)
    with ThreadPoolExecutor(_READS_AT_ONCE) as threads:
        entries = threads.map(partial(_entry, store_root), keys, (found[key] for key in keys))
        return tuple(entries)


def _found(store_root: Location, files: Iterable[FileEntry]) -> dict[str, _Found]:
    found: dict[str, _Found] = defaultdict(_Found)
    for file in files:
        folder, _, name = file.path.partition("/")
        if folder == USES:
            key, _, note = name.partition("/")
            if is_use(note):
                found[key].notes += (uses_of(store_root, key) / note,)
        elif is_key(key := folder.removeprefix(".").removesuffix(".part")):
            found[key].stored_bytes += file.size
            found[key].is_whole |= (folder, name) == (key, MANIFEST_NAME)
    return found


def _entry(store_root: Location, key: str, files: _Found) -> StoreEntry:
    told = _told(store_root, key, files)
    expected = told.expected_bytes if isinstance(told, ActivationRequest) else 0
    return StoreEntry(
        key=key,
        state="unfinished" if not files.is_whole else "whole" if told else "damaged",
        about=told.about if told else {},
        shape=told.shape if told else (),
        dtype=told.dtype if told else None,
        num_rows=told.num_rows if told else 0,
        stored_bytes=files.stored_bytes,
        expected_bytes=max(files.stored_bytes, expected),
        last_used=last_use(uses_of(store_root, key)),
        notes=files.notes,
    )


def _told(
    store_root: Location, key: str, files: _Found
) -> ActivationManifest | ActivationRequest | None:
    """Return what a store says of itself, or what was asked for; None where neither is there."""
    if files.is_whole:
        try:
            return load_activation_manifest(place_of(store_root, key))
        except DataError:
            return None
    return request_in(building_place_of(store_root, key))


def request_in(folder: Location) -> ActivationRequest | None:
    """Return what is being built in a folder; None where nothing tells."""
    try:
        return ActivationRequest.from_json((folder / REQUEST_NAME).read_bytes())
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
