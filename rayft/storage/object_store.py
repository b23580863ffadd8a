"""Objects and folders of a bucket, as `Location` needs them.

A bucket has no folders. Some tools put empty objects named `folder/` in their place; the client
gives these without the slash, so they are told from empty files by asking for the file.
"""

import errno
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import obstore

from rayft.storage.client import PART_BYTES, PARTS_AT_ONCE, store_of
from rayft.storage.faults import REFUSED, storage_faults
from rayft.storage.state import FileEntry, FileState, StorageFault

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ObjectStore

_PAGE = 1000
_LOOKUPS_AT_ONCE = 16
_known: "dict[str, ObjectStore]" = {}


def stat(bucket: str, key: str) -> FileState | None:
    """Return size and version of an object; None where there is none.

    Raises:
        StorageFault: the bucket is missing, closed to us or out of reach.
    """
    if not key:
        return None
    try:
        with storage_faults(bucket, key):
            found = obstore.head(store_of(bucket), key)
    except FileNotFoundError:
        _require_bucket(bucket, key)
        return None
    return FileState(found["size"], found["e_tag"] or "")


def read(bucket: str, key: str, *, version: str | None) -> tuple[bytes, str]:
    """Return the content of an object and its version, where it is `version`."""
    options: GetOptions = {"if_match": version} if version else {}
    with storage_faults(bucket, key):
        found = obstore.get(store_of(bucket), object_key(bucket, key), options=options)
        return bytes(found.bytes()), found.meta["e_tag"] or ""


def read_range(bucket: str, key: str, start: int, length: int, *, version: str) -> bytes:
    """Return `length` bytes of an object from `start` on, fewer where it ends before.

    Args:
        bucket: the bucket, with its scheme.
        key: the object.
        start: first byte, within the object.
        length: bytes, at least 1.
        version: the version that it must have; the empty text where the store has none.
    """
    options: GetOptions = {"range": (start, start + length)}
    if version:
        options["if_match"] = version
    with storage_faults(bucket, key):
        found = obstore.get(store_of(bucket), object_key(bucket, key), options=options)
        return bytes(found.bytes())


def write(bucket: str, key: str, content: bytes | memoryview) -> None:
    """Put an object."""
    body = memoryview(content).cast("B")
    with storage_faults(bucket, key):
        obstore.put(
            store_of(bucket, sends=len(body)),
            object_key(bucket, key),
            body,
            chunk_size=PART_BYTES,
            max_concurrency=PARTS_AT_ONCE,
        )


def object_key(bucket: str, key: str) -> str:
    """Return the key of an object; a bucket itself is none."""
    if not key:
        raise IsADirectoryError(errno.EISDIR, "it is a bucket", bucket)
    return key


def delete(bucket: str, key: str) -> None:
    """Delete an object; a missing one is fine."""
    _delete_all(bucket, [object_key(bucket, key)])


def children(bucket: str, key: str) -> list[str]:
    """Return the names of objects and folders directly below a prefix, sorted."""
    with storage_faults(bucket, key):
        found = obstore.list_with_delimiter(store_of(bucket), key or None)
    paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
    start = _start(key)
    return sorted({path[start:] for path in paths} - {""})


def files(bucket: str, key: str) -> list[FileEntry]:
    """Return every object below a prefix, sorted by its path, without marks of empty folders."""
    start = _start(key)
    found = [
        FileEntry(entry["path"][start:], entry["size"], entry["e_tag"] or "")
        for page in _pages(bucket, key)
        for entry in page
    ]
    found.sort(key=lambda entry: entry.path)
    marks = _folder_marks(bucket, key, found)
    return [entry for entry in found if entry.path not in marks] if marks else found


def delete_tree(bucket: str, key: str) -> None:
    """Delete every object below a prefix."""
    for page in _pages(bucket, key):
        _delete_all(bucket, [entry["path"] for entry in page])


def _delete_all(bucket: str, keys: Sequence[str]) -> None:
    """Delete objects; those that are not there are no error."""
    if not keys:
        return
    try:
        with storage_faults(bucket, keys[0]):
            obstore.delete(store_of(bucket), list(keys))
    except FileNotFoundError:
        # Some stores take a missing object for an error, and leave the rest where they are.
        for key in keys if len(keys) > 1 else ():
            _delete_all(bucket, [key])


def _pages(bucket: str, key: str) -> Iterator[list["ObjectMeta"]]:
    with storage_faults(bucket, key):
        for page in obstore.list(store_of(bucket), key or None, chunk_size=_PAGE):
            # A mark of the folder itself comes as an object named like it.
            yield [entry for entry in page if len(entry["path"]) > _start(key)]


def _start(key: str) -> int:
    return len(key) + 1 if key else 0


def _folder_marks(bucket: str, key: str, found: Sequence[FileEntry]) -> set[str]:
    empty = [entry.path for entry in found if entry.size == 0]
    if not empty:
        return set()
    paths = [entry.path for entry in found]

    def is_mark(path: str) -> bool:
        inside = bisect_left(paths, f"{path}/")
        if inside < len(paths) and paths[inside].startswith(f"{path}/"):
            return True
        return stat(bucket, f"{key}/{path}" if key else path) is None

    with ThreadPoolExecutor(_LOOKUPS_AT_ONCE) as threads:
        return {path for path, mark in zip(empty, threads.map(is_mark, empty), strict=True) if mark}


def _require_bucket(bucket: str, key: str) -> None:
    """Tell a missing bucket from a missing object: asked for its state, a store tells neither."""
    store = store_of(bucket)
    if _known.get(bucket) is store:
        return
    try:
        with storage_faults(bucket, key):
            next(iter(obstore.list(store, key, chunk_size=1)), None)
    except StorageFault as fault:
        if fault.errno != REFUSED:
            raise
    _known[bucket] = store
