"""Which stores of activations go when there is too little room, and how one is removed."""

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rayft.errors import CacheError, Problem
from rayft.storage.location import Location
from rayft.store.activation_list import StoreEntry, list_stores
from rayft.store.activation_use import (
    FOLDER,
    Use,
    bookkeeping,
    building_place_of,
    cache_errors,
    holders_of,
    place_of,
    uses_of,
)
from rayft.store.manifest import MANIFEST_NAME

_BUDGET = ".budget"


@dataclass(frozen=True, slots=True)
class Room:
    """What making room came to."""

    removed: tuple[str, ...]
    """Keys of the stores that were removed."""
    short_by: int
    """Bytes that are missing; nothing is removed where there are any."""
    limit: Literal["budget", "disk"]
    """What is the tighter of the two."""


@contextmanager
def make_room(store_root: Location, *, key: str, needed_bytes: int, budget: int) -> Iterator[Room]:
    """Remove stores until one more fits into budget and disk; nobody else does so in the block.

    First those go that were left unfinished, then those that were used longest ago; never one in
    use, and none where it would not be enough. One that is being built counts with the bytes
    that it will have.

    Args:
        store_root: the folder of all stores.
        key: the store that is to be built; what is there of it stays, and does not count.
        needed_bytes: bytes that it will have.
        budget: bytes that all stores together may have.

    Raises:
        CacheError: the folder cannot be written, or the object store cannot be reached.
    """
    with cache_errors(store_root), bookkeeping(store_root):
        room = _make_room(store_root, key=key, needed_bytes=needed_bytes, budget=budget)
        (store_root / FOLDER / _BUDGET).write_bytes(str(budget).encode())
        yield room


def _make_room(store_root: Location, *, key: str, needed_bytes: int, budget: int) -> Room:
    entries = list_stores(store_root)
    others = [entry for entry in entries if entry.key != key]
    over_budget = sum(entry.expected_bytes for entry in others) + needed_bytes - budget
    there = sum(entry.stored_bytes for entry in entries if entry.key == key)
    over_disk = needed_bytes - there - _free_bytes(store_root, others)
    excess = max(over_budget, over_disk)
    limit: Literal["budget", "disk"] = "disk" if over_disk > over_budget else "budget"
    if excess <= 0:
        return Room((), 0, limit)
    if needed_bytes > budget:
        return Room((), needed_bytes - budget, "budget")
    chosen = _oldest(others, excess)
    missing = excess - sum(entry.expected_bytes for entry in chosen)
    if missing > 0:
        return Room((), missing, limit)
    for entry in chosen:
        _remove(store_root, entry.key)
    return Room(tuple(entry.key for entry in chosen), 0, limit)


def _oldest(entries: Sequence[StoreEntry], needed_bytes: int) -> list[StoreEntry]:
    """Return what nobody uses, unfinished and oldest first, until it comes to so many bytes."""
    users = users_of(entries)
    chosen: list[StoreEntry] = []
    for entry in sorted(entries, key=lambda entry: (entry.state == "whole", entry.last_used)):
        if needed_bytes > 0 and not users[entry.key]:
            chosen.append(entry)
            needed_bytes -= entry.expected_bytes
    return chosen


def _free_bytes(store_root: Location, others: Iterable[StoreEntry]) -> int:
    """Return the bytes that are free for one more store, those that others will take left out."""
    if not store_root.is_local:
        return sys.maxsize
    coming = sum(entry.expected_bytes - entry.stored_bytes for entry in others)
    return shutil.disk_usage(store_root.path).free - coming


def budget_of(store_root: Location) -> int | None:
    """Return the budget that the last build kept to; None before there was any."""
    try:
        return int((store_root / FOLDER / _BUDGET).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def users_of(entries: Iterable[StoreEntry], *, but: Use | None = None) -> dict[str, list[str]]:
    """Return who uses each store. The caller holds `bookkeeping`.

    Args:
        entries: the stores.
        but: a use that does not count.

    Raises:
        OSError: the object store cannot be reached.
    """
    known = list(entries)
    own = but.note if but else None
    holders = holders_of(note for entry in known for note in entry.notes if note != own)
    return {
        entry.key: [holders[note] for note in entry.notes if note in holders] for entry in known
    }


def list_with_users(store_root: Location) -> tuple[Sequence[StoreEntry], Mapping[str, list[str]]]:
    """Return all stores, and who uses each.

    Raises:
        CacheError: the folder cannot be written, or the object store cannot be reached.
    """
    with cache_errors(store_root):
        entries = list_stores(store_root)
        if not any(entry.notes for entry in entries):
            return entries, {entry.key: [] for entry in entries}
        with bookkeeping(store_root):
            entries = list_stores(store_root)
            return entries, users_of(entries)


def remove_stores(store_root: Location, keys: Iterable[str]) -> dict[str, list[str]]:
    """Remove stores, whole or not, but those in use.

    Args:
        store_root: the folder of all stores.
        keys: their keys; those that are not there are fine.

    Returns:
        Who uses each store that was not removed.

    Raises:
        CacheError: the folder cannot be written, or the object store cannot be reached.
    """
    wanted = set(keys)
    with cache_errors(store_root), bookkeeping(store_root):
        # A key that is not listed may be in use all the same: its store is about to be built.
        users = users_of(entry for entry in list_stores(store_root) if entry.key in wanted)
        for key, found in users.items():
            if not found:
                _remove(store_root, key)
    return {key: found for key, found in users.items() if found}


def drop_damaged(use: Use) -> None:
    """Remove a damaged store that this process uses, so that it can be built again.

    Raises:
        CacheError: others use it as well, or the disk or the object store refused.
    """
    with cache_errors(use.store_root), bookkeeping(use.store_root):
        entries = [entry for entry in list_stores(use.store_root) if entry.key == use.key]
        if others := users_of(entries, but=use).get(use.key):
            what = f"it is damaged, and used by {', '.join(others)}"
            raise CacheError(Problem(str(use.place), what, "wait for it, or stop it"))
        _drop(use.place)


def _remove(store_root: Location, key: str) -> None:
    _drop(place_of(store_root, key))
    building_place_of(store_root, key).delete_tree()
    uses_of(store_root, key).delete_tree()


def _drop(place: Location) -> None:
    # Without its manifest it is no store any more, however far the rest gets.
    (place / MANIFEST_NAME).delete()
    place.delete_tree()
