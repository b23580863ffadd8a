"""The one path type: a file or a folder, on this machine or in an object store."""

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self, final
from urllib.parse import unquote, urlsplit

from rayft.errors import Problem, SpecError
from rayft.storage import conditional, local, object_store, transfer
from rayft.storage.commit import sha256_of
from rayft.storage.object_file import BUFFER_BYTES, ObjectFile
from rayft.storage.state import Changed, FileEntry, FileState, StorageFault

__all__ = ["Changed", "FileEntry", "FileState", "Location", "StorageFault"]

_REMOTE = ("s3://", "gs://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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
        scheme, _, rest = text.partition(":")
        if scheme.lower() in ("s3", "gs") and rest.startswith("/"):
            return cls(_remote_url(scheme.lower(), rest, where))
        if text.startswith("file://"):
            parts = urlsplit(text)
            if parts.netloc not in ("", "localhost"):
                what = f"{text!r} names another machine"
                raise SpecError(Problem(where, what, "write file:///absolute/path"))
            text = unquote(parts.path)
        elif "://" in text:
            what = f"{scheme}:// is of a kind that cannot be reached"
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
        return self.path.name if self.is_local else PurePosixPath(self.key).name

    @property
    def parent(self) -> "Location":
        """The folder that it lies in; itself for a root or a whole bucket."""
        if self.is_local:
            return Location(str(self.path.parent))
        return Location(self.url.rsplit("/", 1)[0]) if self.key else self

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
    def key(self) -> str:
        """The name of a remote location in its bucket; empty for the whole bucket."""
        return self.url[len(self.bucket) + 1 :]

    # A file.

    def stat(self) -> FileState | None:
        """Return size and version of the file; None where there is none.

        Raises:
            StorageFault: the object store failed; OSError where this machine did. So do all below.
        """
        if self.is_local:
            return local.stat(self.path)
        return object_store.stat(self.bucket, self.key)

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
            with local.opened(self.path, version=version) as file:
                return file.read()
        return object_store.read(self.bucket, self.key, version=version)[0]

    def read_versioned(self) -> tuple[bytes, str]:
        """Return the content of the file and its version.

        Raises:
            FileNotFoundError: it is not there.
        """
        if self.is_local:
            return local.read_versioned(self.path)
        return object_store.read(self.bucket, self.key, version=None)

    def write_bytes(self, content: bytes | memoryview) -> None:
        """Write the file: complete or absent, whatever was there before."""
        if self.is_local:
            local.write(self.path, content)
        else:
            object_store.write(self.bucket, self.key, content)

    def create(self, content: bytes | memoryview) -> bool:
        """Write the file where there is none; return whether it was written."""
        if self.is_local:
            return local.create(self.path, content)
        return conditional.create(self.bucket, self.key, content) is not None

    def replace(self, content: bytes | memoryview, *, version: str) -> bool:
        """Write the file where it still is `version`; return whether it was written."""
        if self.is_local:
            return local.replace(self.path, content, version=version)
        found = conditional.replace(self.bucket, self.key, content, version=version)
        return found is not None

    def delete(self) -> None:
        """Delete the file, where there is one."""
        if self.is_local:
            local.delete(self.path)
        else:
            object_store.delete(self.bucket, self.key)

    @contextmanager
    def open(self, *, version: str | None = None) -> Iterator[BinaryIO]:
        """Open the file for reading at any place.

        An object is read as the one version that it was when opened; it raises `Changed` in the
        middle where another is put in its place.

        Raises:
            FileNotFoundError: it is not there.
            Changed: it is not `version`.
        """
        if self.is_local:
            with local.opened(self.path, version=version) as file:
                yield file
        else:
            state = transfer.state_of(self.bucket, self.key, version=version)
            with (
                ObjectFile(self.bucket, self.key, state) as raw,
                io.BufferedReader(raw, BUFFER_BYTES) as file,
            ):
                yield file

    def sha256(self) -> str:
        """Return the SHA-256 of the content in hexadecimal, reading it in pieces.

        Raises:
            FileNotFoundError: it is not there.
        """
        if self.is_local:
            return sha256_of(self.path)
        digest = hashlib.sha256()
        with closing(transfer.read_parts(self.bucket, self.key)) as parts:
            for part in parts:
                digest.update(part)
        return digest.hexdigest()

    def download(self, to: Path) -> None:
        """Copy the file to `to`, which is complete or absent, with the folders above it.

        Raises:
            FileNotFoundError: it is not there.
            Changed: another object was put in its place meanwhile.
        """
        if self.is_local:
            local.copy(self.path, to)
        else:
            transfer.download(self.bucket, self.key, to)

    def upload(self, source: Path) -> None:
        """Write the file from `source`, in parts: complete or absent.

        Raises:
            FileNotFoundError: there is no `source`.
        """
        if self.is_local:
            local.copy(source, self.path)
        else:
            transfer.upload(self.bucket, self.key, source)

    # A folder.

    def children(self) -> list[str]:
        """Return the names of files and folders directly inside, sorted; none where it is not."""
        if self.is_local:
            return local.children(self.path)
        return object_store.children(self.bucket, self.key)

    def files(self) -> list[FileEntry]:
        """Return every file below, sorted by its path; links to folders are not followed."""
        if self.is_local:
            return local.files(self.path)
        return object_store.files(self.bucket, self.key)

    def delete_tree(self) -> None:
        """Delete everything below, and the folder."""
        if self.is_local:
            local.delete_tree(self.path)
        else:
            object_store.delete_tree(self.bucket, self.key)


def _remote_url(scheme: str, rest: str, where: str) -> str:
    bucket, _, key = rest.removeprefix("//").partition("/")
    steps = [step for step in key.split("/") if step not in ("", ".")]
    wrong = None
    if not rest.startswith("//") or not _BUCKET.fullmatch(bucket):
        # The text is not repeated: some put their keys before the name of the bucket.
        wrong = "names no bucket"
    elif ".." in steps:
        wrong = "leads out of its folder by '..'"
    elif _CONTROL.search(key):
        wrong = "holds a control character"
    if wrong:
        what = f"an address of {scheme}:// that {wrong}"
        raise SpecError(Problem(where, what, f"write {scheme}://bucket/folder"))
    return "/".join([f"{scheme}://{bucket}", *steps])
