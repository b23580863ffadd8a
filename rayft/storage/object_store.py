"""Objects in a bucket, as `Location` needs them."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from rayft.storage.state import Changed, FileEntry, FileState, StorageFault

_CHUNK_BYTES = 8 * 2**20
_RETRY_S = 30
_MOST_DELETED = 1000


@cache
def _store_of(bucket: str, process: int) -> Any:  # noqa: ANN401  one of obstore's stores
    """Return the client of a bucket; a forked child must not share its parent's."""
    del process
    return from_url(
        bucket,
        retry_config={
            "max_retries": 6,
            "retry_timeout": timedelta(seconds=_RETRY_S),
            "backoff": {
                "base": 2,
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=5),
            },
        },
        client_options={
            "timeout": "120s",
            "connect_timeout": "5s",
            # Options given here replace those of the environment.
            "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes"),
        },
    )


def _store(bucket: str) -> Any:  # noqa: ANN401  as above
    return _store_of(bucket, os.getpid())


@contextmanager
def _faults(bucket: str, key: str) -> Iterator[None]:
    """Turn what the client raises into what a caller of files expects."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise StorageFault(2, f"there is no bucket {bucket}") from error
        raise FileNotFoundError(2, "there is no such object", f"{bucket}/{key}") from error
    except PreconditionError as error:
        raise Changed(f"{bucket}/{key} is no longer as it was") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        what = f"access to {bucket} was refused ({_line(error)})"
        raise StorageFault(13, what) from error
    except BaseError as error:
        if "NoSuchBucket" in str(error):
            raise StorageFault(2, f"there is no bucket {bucket}") from error
        if "169.254.169.254" in str(error) or "metadata" in str(error).lower():
            what = f"no credentials for {bucket} were found in the environment"
            raise StorageFault(13, what) from error
        raise StorageFault(5, f"{bucket} cannot be reached: {_line(error)}") from error


def _line(error: Exception) -> str:
    """Return what a client says in one line, without addresses, which may be signed."""
    text = str(error).split("Debug source")[0]
    if code := re.search(r"<Code>(\w+)</Code>", text):
        return code[1]
    text = re.sub(r"https?://\S+", "the store", text)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:300]


def stat(bucket: str, key: str) -> FileState | None:
    """Return size and version of an object; None where there is none."""
    if not key:
        return None
    try:
        with _faults(bucket, key):
            found = obstore.head(_store(bucket), key)
    except FileNotFoundError:
        return None
    return FileState(found["size"], found["e_tag"] or "")


def read(bucket: str, key: str, *, version: str | None) -> tuple[bytes, str]:
    """Return the content of an object and its version, where it is `version`."""
    with _faults(bucket, key):
        options = {"if_match": version} if version is not None else None
        found = obstore.get(_store(bucket), key, options=cast(Any, options))
        return bytes(found.bytes()), found.meta["e_tag"] or ""


def write(bucket: str, key: str, content: bytes | memoryview) -> None:
    """Put an object."""
    with _faults(bucket, key):
        obstore.put(_store(bucket), key, content)


def create(bucket: str, key: str, content: bytes | memoryview) -> bool:
    """Put an object where there is none."""
    with _faults(bucket, key):
        try:
            obstore.put(_store(bucket), key, content, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
    return True


def replace(bucket: str, key: str, content: bytes | memoryview, *, version: str) -> bool:
    """Put an object where it still is `version`."""
    with _faults(bucket, key):
        try:
            mode = {"e_tag": version}
            obstore.put(_store(bucket), key, content, mode=cast(Any, mode), use_multipart=False)
        except (PreconditionError, FileNotFoundError):
            return False
    return True


def delete(bucket: str, keys: Sequence[str]) -> None:
    """Delete objects; those that are not there are no error."""
    for start in range(0, len(keys), _MOST_DELETED):
        some = list(keys[start : start + _MOST_DELETED])
        with _faults(bucket, some[0]):
            obstore.delete(_store(bucket), some)


def open_reader(bucket: str, key: str) -> BinaryIO:
    """Return a file-like object that fetches what is read from it."""
    with _faults(bucket, key):
        reader = obstore.open_reader(_store(bucket), key, buffer_size=_CHUNK_BYTES)
    return cast(BinaryIO, _Reader(reader, lambda: _faults(bucket, key)))


class _Reader:
    """Gives bytes where the client gives buffers of its own."""

    closed = False

    def __init__(self, reader: Any, faults: Callable[[], Any]) -> None:  # noqa: ANN401
        self._reader = reader
        self._faults = faults

    def read(self, size: int = -1) -> bytes:
        with self._faults():
            return bytes(self._reader.read(None if size < 0 else size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def download(bucket: str, key: str, to: Path) -> None:
    """Copy an object to a file that is complete or absent."""
    to.parent.mkdir(parents=True, exist_ok=True)
    tmp = to.with_name(f".{to.name}.{uuid4().hex}")
    try:
        with _faults(bucket, key), tmp.open("xb") as file:
            for chunk in obstore.get(_store(bucket), key).stream(min_chunk_size=_CHUNK_BYTES):
                file.write(chunk)
        tmp.replace(to)
    finally:
        tmp.unlink(missing_ok=True)


def upload(bucket: str, key: str, source: Path) -> None:
    """Put an object from a file, in parts."""
    with _faults(bucket, key):
        obstore.put(_store(bucket), key, source, chunk_size=_CHUNK_BYTES)


def children(bucket: str, key: str) -> list[str]:
    """Return the names directly below a prefix, sorted."""
    with _faults(bucket, key):
        found = obstore.list_with_delimiter(_store(bucket), key or None)
    paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
    return sorted({path.rsplit("/", 1)[-1] for path in paths} - {""})


def files(bucket: str, key: str) -> list[FileEntry]:
    """Return every object below a prefix, sorted by its path."""
    start = len(key) + 1 if key else 0
    found = []
    with _faults(bucket, key):
        for some in obstore.list(_store(bucket), key or None):
            for entry in some:
                path = entry["path"][start:]
                if path and not (path.endswith("/") and not entry["size"]):
                    found.append(FileEntry(path, entry["size"], entry["e_tag"] or ""))
    return sorted(found, key=lambda entry: entry.path)


def delete_tree(bucket: str, key: str) -> None:
    """Delete every object below a prefix."""
    keys = [f"{key}/{entry.path}" if key else entry.path for entry in files(bucket, key)]
    delete(bucket, keys)
