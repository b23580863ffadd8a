"""Reading files of an object store: what they were when listed, several at once, clear refusals.

An object is known by its size and version from the listing on, and is read as that version or
not at all: a row from a newer object would belong to another data set than the one that was
counted, so it stops the command and is not put aside as a bad row.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from rayft.errors import DataError, Problem
from rayft.storage.location import Changed, FileEntry, FileState, Location

T = TypeVar("T")
Item = TypeVar("Item")

READ_THREADS = 16
BYTES_AHEAD = 64 * 2**20
"""Most bytes that are fetched and not yet used, or one file where it is larger."""
LOOKUPS = 64
"""Up to this many files are looked up one by one, which spares listing a large folder."""


@contextmanager
def refusing(place: Location) -> Iterator[None]:
    """Turn failures of an object store within the block into a `DataError` that names `place`.

    Raises:
        DataError: the object is gone or another than the one listed, or the store failed.
    """
    try:
        yield
    except OSError as error:
        raise DataError(read_problem(place, error)) from error


def read_problem(place: Location, error: OSError) -> Problem:
    """Say why an object that was listed cannot be read."""
    if isinstance(error, Changed | FileNotFoundError):
        verb = "changed" if isinstance(error, Changed) else "vanished"
        what = f"it {verb} since it was listed"
        return Problem(str(place), what, "let whatever writes it finish, and run the command again")
    return Problem(str(place), f"it cannot be read: {error.strerror or error}", how_to_test(place))


def how_to_test(place: Location) -> str:
    """Tell how to find out whether a place of an object store can be reached."""
    scheme, _, rest = place.url.partition("://")
    bucket = f"{scheme}://{rest.split('/')[0]}/"
    if scheme == "gs":
        return (
            "check the bucket's name and the credentials in the environment (GOOGLE_*) of every "
            f"machine; `gcloud storage ls {bucket}` tests both"
        )
    return (
        "check the bucket's name and the credentials, region and endpoint in the environment "
        f"(AWS_*) of every machine; `aws s3 ls {bucket}` tests them"
    )


def list_files(folder: Location) -> list[FileEntry]:
    """Return every object below a folder of an object store, by one listing.

    Raises:
        DataError: the bucket is missing or closed to us.
    """
    with refusing(folder):
        # A key that ends in a slash stands for an empty folder.
        return [entry for entry in folder.files() if not entry.path.endswith("/")]


def look_up(place: Location) -> FileState | None:
    """Return size and version of an object; None where there is none.

    Raises:
        DataError: the bucket is missing or closed to us.
    """
    with refusing(place):
        return place.stat()


def look_up_all(root: Location, paths: Iterable[str]) -> dict[str, FileState]:
    """Return size and version of those of `paths`, relative to `root`, that are there.

    Raises:
        DataError: the bucket is missing or closed to us.
    """
    wanted = list(dict.fromkeys(paths))
    if len(wanted) > LOOKUPS:
        entries = {entry.path: entry for entry in list_files(root)}
        found = ((path, entries.get(path)) for path in wanted)
        return {path: FileState(e.size, e.version) for path, e in found if e is not None}
    with ThreadPoolExecutor(READ_THREADS) as threads:
        states = threads.map(lambda path: look_up(root / path), wanted)
        return {p: state for p, state in zip(wanted, states, strict=True) if state is not None}


def in_parallel(
    function: Callable[[Item], T], items: Sequence[Item], *, threads: int | None = None
) -> list[T]:
    """Call `function` on every item, several at once; results in the order of the items."""
    if threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads or READ_THREADS) as pool:
        return list(pool.map(function, items))


def read_ahead(
    read: Callable[[Item], T], items: Iterable[Item], *, size_of: Callable[[Item], int]
) -> Iterator[T]:
    """Call `read` on items, several at once, while results are taken one by one in order.

    Args:
        read: called in a thread.
        items: in the order of the results.
        size_of: bytes that an item's result takes, about.
    """
    waiting: deque[tuple[Future[T], int]] = deque()
    held = 0
    with ThreadPoolExecutor(READ_THREADS) as threads:
        try:
            for item in items:
                size = size_of(item)
                while waiting and (held + size > BYTES_AHEAD or len(waiting) >= 2 * READ_THREADS):
                    future, freed = waiting.popleft()
                    yield future.result()
                    held -= freed
                waiting.append((threads.submit(read, item), size))
                held += size
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()


def is_remote(path: str) -> bool:
    """Tell whether a path of a spec names an object store; `file://` is this machine."""
    return "://" in path and not path.startswith("file://")
