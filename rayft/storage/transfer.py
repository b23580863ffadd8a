"""Large objects: read and written in parts, some at once."""

import errno
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import obstore

from rayft.storage.client import PART_BYTES, PARTS_AT_ONCE, store_of
from rayft.storage.commit import atomic_file
from rayft.storage.faults import storage_faults
from rayft.storage.object_store import object_key, read_range, stat
from rayft.storage.state import Changed, FileState

_MOST_PARTS = 10_000
"""Of one object, by the rules of S3."""


def state_of(bucket: str, key: str, *, version: str | None) -> FileState:
    """Return the state of an object that is there, where it is `version`."""
    state = stat(bucket, object_key(bucket, key))
    if state is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", f"{bucket}/{key}")
    if version and state.version != version:
        raise Changed(errno.ESTALE, "it is no longer as it was", f"{bucket}/{key}")
    return state


def read_parts(bucket: str, key: str) -> Generator[bytes, None, None]:
    """Yield the content of an object in large parts, fetching some ahead.

    Raises:
        FileNotFoundError: it is not there.
        Changed: it became another object between two parts.
    """
    state = state_of(bucket, key, version=None)

    def fetch(start: int) -> bytes:
        length = min(PART_BYTES, state.size - start)
        content = read_range(bucket, key, start, length, version=state.version)
        if len(content) != length:
            raise Changed(errno.ESTALE, "it is no longer as it was", f"{bucket}/{key}")
        return content

    with ThreadPoolExecutor(PARTS_AT_ONCE) as threads:
        starts = iter(range(0, state.size, PART_BYTES))
        waiting = deque(threads.submit(fetch, start) for start in islice(starts, PARTS_AT_ONCE))
        while waiting:
            content = waiting.popleft().result()
            waiting.extend(threads.submit(fetch, start) for start in islice(starts, 1))
            yield content


def download(bucket: str, key: str, to: Path) -> None:
    """Copy an object to a file that is complete or absent."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with closing(read_parts(bucket, key)) as parts, atomic_file(to) as file:
        for part in parts:
            file.write(part)


def upload(bucket: str, key: str, source: Path) -> None:
    """Put an object from a file, in parts."""
    part_bytes = max(PART_BYTES, -(-source.stat().st_size // _MOST_PARTS))
    with storage_faults(bucket, key):
        obstore.put(
            store_of(bucket, sends=part_bytes),
            object_key(bucket, key),
            source,
            chunk_size=part_bytes,
            max_concurrency=PARTS_AT_ONCE,
        )
