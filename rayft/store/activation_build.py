"""From a request to a committed store of activations: lock, room, shards, manifest, commit.

Shards are made by a `Runner`, a port. A build that dies leaves the shards that it finished, each
with a record of its own; the next one checks them and makes only the others. Nothing is visible
before the commit: on a local disk a store is built beside its place and renamed; in an object
store its files lie in their place, and the manifest, put last and only where there is none, makes
them a store.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from rayft.errors import CacheError, DataError, Problem
from rayft.storage.commit import commit_directory
from rayft.storage.location import Location
from rayft.storage.lock import Lock, locked
from rayft.storage.state import StorageFault
from rayft.store.activation_list import request_in
from rayft.store.activation_manifest import ActivationManifest
from rayft.store.activation_request import REQUEST_NAME, ActivationRequest
from rayft.store.activation_room import drop_damaged, make_room
from rayft.store.activation_use import (
    FOLDER,
    Use,
    building_place_of,
    cache_errors,
    this_process,
)
from rayft.store.activation_work import Runner, cut_into_works, finished_shards
from rayft.store.activations import ActivationStore, manifest_of_whole
from rayft.store.manifest import MANIFEST_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What building a store came to."""

    rows_made: int
    rows_reused: int
    """Rows that were there: all of a whole store, or what a build that died had finished."""
    removed: tuple[str, ...]
    """Keys of stores that made room."""


def build_activations(
    use: Use,
    request: ActivationRequest,
    *,
    budget: int,
    run: Runner,
    on_rows: Callable[[int], None],
) -> Built:
    """Build a store of activations, unless it is there.

    When two processes ask for the same store at once, the second waits and then finds it. A
    store with files of a wrong size is built anew.

    Args:
        use: the use of the key; it lasts for as long as the store is needed.
        request: the store that is wanted.
        budget: bytes that all stores of activations together may have.
        run: makes the shards.
        on_rows: called with the number of rows of each shard that is there, or finished.

    Raises:
        CacheError: there is too little room, or the disk or the object store refused; shards
            that were finished stay for the next build, and can be removed.
        DataError: as `run` raises it.
    """
    assert use.key == request.key, "the use is of another store"
    lock = use.store_root / "locks" / f"{FOLDER}-{use.key}.lock"
    with ExitStack() as stack:
        with cache_errors(use.store_root):
            held = stack.enter_context(locked(lock, holder=this_process(), wait=True))
            is_there = _is_sound(use, request)
        if is_there:
            on_rows(request.num_rows)
            return Built(rows_made=0, rows_reused=request.num_rows, removed=())
        removed = _reserve(use, request, budget)
        return replace(_fill(use, request, held, run=run, on_rows=on_rows), removed=removed)


def _is_sound(use: Use, request: ActivationRequest) -> bool:
    """Return whether the store is there, after a look; a damaged one is removed."""
    if (use.place / MANIFEST_NAME).exists():
        if _looks_like(request, use.place):
            return True
        drop_damaged(use)
    elif use.place.is_local and use.place.children():
        # What is left of one whose removal was cut short: a folder cannot be renamed over it.
        drop_damaged(use)
    return False


def _looks_like(request: ActivationRequest, place: Location) -> bool:
    try:
        found = manifest_of_whole(place)
        if place.is_local:
            ActivationStore.open(place)
    except DataError as error:
        if isinstance(error.__cause__, StorageFault):
            # It cannot be reached; that is no damage.
            raise error.__cause__ from error
        return False
    wanted = (request.shape, request.dtype, request.num_rows)
    return (found.shape, found.dtype, found.num_rows) == wanted


def _reserve(use: Use, request: ActivationRequest, budget: int) -> tuple[str, ...]:
    """Make room, and leave a note in the folder of the build of what it will come to."""
    needed = request.expected_bytes
    with make_room(use.store_root, key=use.key, needed_bytes=needed, budget=budget) as room:
        if room.short_by:
            limits = {
                "budget": f"the budget of {budget / 1e9:.2f} GB",
                "disk": "the free space of the disk",
            }
            what = (
                f"a store of {needed / 1e9:.2f} GB is {room.short_by / 1e9:.2f} GB too large for "
                f"{limits[room.limit]}, beside the stores in use"
            )
            fix = "make more room, or wait for the runs that use other stores"
            raise CacheError(Problem(str(use.place), what, fix))
        folder = building_place_of(use.store_root, use.key)
        left = request_in(folder)
        if left is None or replace(left, about=request.about) != request:
            folder.delete_tree()
        (folder / REQUEST_NAME).write_bytes(request.to_json().encode())
    return room.removed


def _fill(
    use: Use,
    request: ActivationRequest,
    held: Lock,
    *,
    run: Runner,
    on_rows: Callable[[int], None],
) -> Built:
    folder = building_place_of(use.store_root, use.key)
    works = cut_into_works(request, folder)
    with cache_errors(folder):
        done = finished_shards(works)
    reused = sum(record.rows for record in done.values())
    if reused:
        on_rows(reused)
    for report in run([work for work in works if work.index not in done]):
        done[report.index] = report.record
        on_rows(report.record.rows)
        with cache_errors(folder):
            held.check()
    shards = tuple(record for _, record in sorted(done.items()))
    with cache_errors(folder):
        held.check()
        _commit(folder, use.place, request.manifest(shards))
    return Built(rows_made=request.num_rows - reused, rows_reused=reused, removed=())


def _commit(folder: Location, final: Location, manifest: ActivationManifest) -> None:
    """Make the finished files a store, then clear what only the build needed."""
    content = manifest.to_json().encode()
    if folder.is_local:
        # One may be there, of a build that was killed before the next line.
        (folder / MANIFEST_NAME).write_bytes(content)
        commit_directory(folder.path, final.path)
    else:
        (folder / MANIFEST_NAME).create(content)
    wanted = {MANIFEST_NAME, *(shard.file for shard in manifest.shards)}
    for name in final.children():
        if name not in wanted:
            (final / name).delete()
