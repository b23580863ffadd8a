"""The one path type: a file or a folder, on this machine or in an object store."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self, final
from urllib.parse import unquote, urlsplit

from rayft.errors import Problem, SpecError
from rayft.storage import local, object_store
from rayft.storage.state import Changed, FileEntry, FileState, StorageFault

__all__ = ["Changed", "FileEntry", "FileState", "Location", "StorageFault"]

_REMOTE = ("s3://", "gs://")
_PIECE_BYTES = 4 * 2**20


@final
@dataclass(frozen=True, slots=True)
class Location:
    """A file, or a folder of files. Hashable, picklable and cheap: it holds its address only."""

    url: str
    """`/absolute/path`, `s3://bucket/key` or `gs://bucket/key`; no `..`, no slash at its end."""

    @classmethod
    def parse(cls, text: str, *, base_dir: Path, where: str) -> Self:
        """Return the location that a user's text means.

        Args:
            text: a path, relative or with `~`, or an address.
            base_dir: the folder that relative paths start from.
            where: the setting it comes from, for the message.

        Raises:
            SpecError: the address is of a kind that cannot be read.
        """
        if text.startswith(_REMOTE):
            return cls(_remote_url(text, where))
        if text.startswith("file://"):
            parts = urlsplit(text)
            if parts.netloc not in ("", "localhost"):
                what = f"{text!r} names another machine"
                raise SpecError(Problem(where, what, "write file:///absolute/path"))
            text = unquote(parts.path)
        elif "://" in text:
            what = f"{text!r} is of a kind that cannot be reached"
            fix = "use a path, file:///path, s3://bucket/path or gs://bucket/path"
            raise SpecError(Problem(where, what, fix))
        return cls(os.path.normpath((base_dir / Path(text).expanduser()).absolute()))

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return not self.url.startswith(_REMOTE)

    @property
    def path(self) -> Path:
        """The path.

        Raises:
            ValueError: it is remote.
        """
        if not self.is_local:
            raise ValueError(f"{self.url} is no path of this machine")
        return Path(self.url)

    @property
    def name(self) -> str:
        """The last part; empty for a whole bucket."""
        return self.path.name if self.is_local else PurePosixPath(self._key).name

    @property
    def parent(self) -> "Location":
        """The folder that it lies in; itself for a root or a whole bucket."""
        if self.is_local:
            return Location(str(self.path.parent))
        return Location(self.url.rsplit("/", 1)[0]) if self._key else self

    def __truediv__(self, part: str) -> "Location":
        steps = part.split("/")
        if part.startswith("/") or ".." in steps or "" in steps or "." in steps:
            raise ValueError(f"{part!r} is no relative path")
        return Location(f"{self.url.rstrip('/')}/{part}")

    def __str__(self) -> str:
        return self.url

    @property
    def bucket(self) -> str:
        """The bucket of a remote location, with its scheme: `s3://bucket`."""
        return "/".join(self.url.split("/")[:3])

    @property
    def _key(self) -> str:
        return self.url[len(self.bucket) + 1 :]

    # A file.

    def stat(self) -> FileState | None:
        """Return size and version of the file; None where there is none."""
        if self.is_local:
            return local.stat(self.path)
        return object_store.stat(self.bucket, self._key)

    def exists(self) -> bool:
        """Return whether a file is there."""
        return self.stat() is not None

    def read_bytes(self, *, version: str | None = None) -> bytes:
        """Return the content of the file.

        Raises:
            FileNotFoundError: it is not there.
            Changed: it is no longer `version`.
        """
        if self.is_local:
            return local.read(self.path, version=version)
        return object_store.read(self.bucket, self._key, version=version)[0]

    def read_versioned(self) -> tuple[bytes, str]:
        """Return the content of the file and its version."""
        if self.is_local:
            return local.read_versioned(self.path)
        return object_store.read(self.bucket, self._key, version=None)

    def write_bytes(self, content: bytes | memoryview) -> None:
        """Write the file: complete or absent, whatever was there before."""
        if self.is_local:
            local.write(self.path, content)
        else:
            object_store.write(self.bucket, self._key, content)

    def create(self, content: bytes | memoryview) -> bool:
        """Write the file where there is none; return whether it was written."""
        if self.is_local:
            return local.create(self.path, content)
        return object_store.create(self.bucket, self._key, content)

    def replace(self, content: bytes | memoryview, *, version: str) -> bool:
        """Write the file where it still is `version`; return whether it was written."""
        if self.is_local:
            return local.replace(self.path, content, version=version)
        return object_store.replace(self.bucket, self._key, content, version=version)

    def delete(self) -> None:
        """Delete the file, where there is one."""
        if self.is_local:
            self.path.unlink(missing_ok=True)
        else:
            object_store.delete(self.bucket, [self._key])

    @contextmanager
    def open(self, *, version: str | None = None) -> Iterator[BinaryIO]:
        """Open the file for reading at any place.

        Raises:
            FileNotFoundError: it is not there.
            Changed: it is not `version`.
        """
        if version is not None:
            state = self.stat()
            if state is None or state.version != version:
                raise Changed(f"{self} is no longer as it was")
        if self.is_local:
            with self.path.open("rb") as file:
                yield file
        else:
            yield object_store.open_reader(self.bucket, self._key)

    def sha256(self) -> str:
        """Return the SHA-256 of the content in hexadecimal, reading it in pieces."""
        digest = hashlib.sha256()
        with self.open() as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def download(self, to: Path) -> None:
        """Copy the file to `to`, which is complete or absent."""
        if self.is_local:
            local.copy(self.path, to)
        else:
            object_store.download(self.bucket, self._key, to)

    def upload(self, source: Path) -> None:
        """Write the file from `source`, in parts."""
        if self.is_local:
            local.copy(source, self.path)
        else:
            object_store.upload(self.bucket, self._key, source)

    # A folder.

    def children(self) -> list[str]:
        """Return the names of files and folders directly inside, sorted; none where it is not."""
        if self.is_local:
            return local.children(self.path)
        return object_store.children(self.bucket, self._key)

    def files(self) -> list[FileEntry]:
        """Return every file below, sorted by its path; links to folders are not followed."""
        if self.is_local:
            return local.files(self.path)
        return object_store.files(self.bucket, self._key)

    def delete_tree(self) -> None:
        """Delete everything below, and the folder."""
        if self.is_local:
            local.delete_tree(self.path)
        else:
            object_store.delete_tree(self.bucket, self._key)


def _remote_url(text: str, where: str) -> str:
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    steps = [step for step in key.split("/") if step not in ("", ".")]
    if not bucket or ".." in steps:
        what = f"{text!r} does not name a bucket and a folder in it"
        raise SpecError(Problem(where, what, f"write {scheme}://bucket/folder"))
    return "/".join([f"{scheme}://{bucket}", *steps])
