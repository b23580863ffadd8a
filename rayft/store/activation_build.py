"""From a request to a committed store of activations: lock, room, shards, manifest, commit.

Shards are made by whoever asks, of several stores at once. A build that dies leaves the shards
that it finished, each with a record of its own; the next one checks them and makes only the others.
Nothing is visible before the commit: on a local disk a store is built beside its place and renamed;
in an object store its files lie in their place, and the manifest, put last and only where there is
none, makes them a store.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import final

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
from rayft.store.activation_work import (
    ActivationReport,
    ActivationWork,
    cut_into_works,
    finished_shards,
)
from rayft.store.activations import ActivationStore, manifest_of_whole
from rayft.store.manifest import MANIFEST_NAME, FileRecord


@final
class Build:
    """A store that is being built; or one that is there, for which nothing is left to do.

    Attributes:
        works: the shards that are to be made.
        rows_reused: rows that were there: all of a whole store, or what a build that died had
            finished.
        removed: keys of stores that made room.
    """

    def __init__(
        self,
        use: Use,
        request: ActivationRequest,
        held: Lock,
        *,
        is_there: bool,
        removed: tuple[str, ...] = (),
    ) -> None:
        self._use = use
        self._request = request
        self._held = held
        self._folder = building_place_of(use.store_root, use.key)
        self._is_there = is_there
        self._done: dict[int, FileRecord] = {}
        self.works: tuple[ActivationWork, ...] = ()
        self.removed = removed
        if not is_there:
            works = cut_into_works(request, self._folder)
            with cache_errors(self._folder):
                self._done = finished_shards(works)
            self.works = tuple(work for work in works if work.index not in self._done)
        self.rows_reused = request.num_rows - sum(work.num_rows for work in self.works)

    def take(self, report: ActivationReport) -> None:
        """Note that a shard is made.

        Raises:
            CacheError: the store was lost to another process.
        """
        self._done[report.index] = report.record
        with cache_errors(self._folder):
            self._held.check()

    def commit(self) -> None:
        """Make the finished shards a store.

        Raises:
            CacheError: the disk or the object store refused, or the store was lost to another
                process.
        """
        if self._is_there:
            return
        shards = tuple(record for _, record in sorted(self._done.items()))
        with cache_errors(self._folder):
            self._held.check()
            _commit(self._folder, self._use.place, self._request.manifest(shards))
        self._is_there = True


@contextmanager
def building(
    use: Use,
    request: ActivationRequest,
    *,
    budget: int,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[Build]:
    """Build a store of activations in a `with` block, unless it is there; it ends with a commit.

    When two processes ask for the same store at once, the second waits and then finds it; so
    those who build several at once do so in the order of their keys. A store with files of a
    wrong size is built anew. Shards of a build that ends without a commit stay for the next one,
    and can be removed.

    Args:
        use: the use of the key; it lasts for as long as the store is needed.
        request: the store that is wanted.
        budget: bytes that all stores of activations together may have.
        on_wait: called once where another process is building it.

    Raises:
        CacheError: there is too little room, or the disk or the object store refused.
    """
    assert use.key == request.key, "the use is of another store"
    lock = use.store_root / "locks" / f"{FOLDER}-{use.key}.lock"
    with ExitStack() as stack:
        with cache_errors(use.store_root):
            try:
                held = stack.enter_context(locked(lock, holder=this_process(), wait=False))
            except BlockingIOError:
                on_wait()
                held = stack.enter_context(locked(lock, holder=this_process(), wait=True))
            is_there = _is_sound(use, request)
        removed = () if is_there else _reserve(use, request, budget)
        yield Build(use, request, held, is_there=is_there, removed=removed)


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
