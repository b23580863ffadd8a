"""Shards of remote row stores on this machine's disk, shared by all of its processes.

A cached file is named by its SHA-256, so equal shards of any store are one file, and what is
there is right. Those used longest ago make room for new ones.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from rayft.errors import DataError, Problem
from rayft.storage.commit import exclusive, sha256_of
from rayft.storage.location import Location
from rayft.store.manifest import FileRecord

CACHE_VARIABLE = "RAYFT_CACHE_DIR"
T = TypeVar("T")

_RESERVED = ".reserved"
_LOOK_S = 0.05
_STRIPES = 64
"""Locks that keep two processes from fetching the same file; a few serve any number of files."""
_ABANDONED_S = 900.0
"""A half-fetched file that nobody has touched for so long belongs to a process that died."""


def cache_folder(path: str) -> Path:
    """Return the folder of the cache on this machine.

    Args:
        path: as the spec names it; `auto` is `$RAYFT_CACHE_DIR`, or else `~/.cache/rayft`.
    """
    if path == "auto":
        path = os.environ.get(CACHE_VARIABLE) or "~/.cache/rayft"
    return Path(path).expanduser().absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCache:
    """A folder of files fetched from remote stores.

    Safe to share between processes: a file is complete or absent, fetched by one process while
    the others wait, and files and reservations together stay within the budget.
    """

    folder: Path
    budget: int
    """Bytes that all files together may take."""

    def path_of(self, record: FileRecord) -> Path:
        """Return where a file is, once it is fetched."""
        return self.folder / "files" / f"{record.sha256}.arrow"

    def opened(self, store: Location, record: FileRecord, opens: Callable[[Path], T]) -> T:
        """Return what `opens` makes of a store's file on this machine, fetched where it is missing.

        Raises:
            DataError: it vanished or changed, or does not fit into the budget.
            OSError: it cannot be fetched, or the disk refused.
        """
        path = self.path_of(record)
        while True:
            if not _used_now(path):
                self._fetch_once(store, record, path)
            try:
                return opens(path)
            except FileNotFoundError:
                # Another process needed the room between the two lines.
                continue

    def _fetch_once(self, store: Location, record: FileRecord, path: Path) -> None:
        stripe = int(record.sha256[:8], 16) % _STRIPES
        with exclusive(self.folder / "locks" / f"{stripe:02d}.lock", wait=True):
            if not _used_now(path):
                with self._room(record) as part:
                    _download(store / record.file, record, part)
                    path.parent.mkdir(exist_ok=True)
                    part.replace(path)

    @contextmanager
    def _room(self, record: FileRecord) -> Iterator[Path]:
        """Make room for a file, and hold it while the file is fetched to the path that is given."""
        if record.bytes > self.budget:
            what = (
                f"one file of {record.bytes / 1e6:,.0f} MB does not fit into "
                f"{self.budget / 1e6:,.0f} MB"
            )
            raise DataError(Problem("data.local_cache.budget", what, "raise it"))
        incoming = self.folder / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        reserved, part = incoming / f"{name}{_RESERVED}", incoming / f"{name}.part"
        while not self._reserve(reserved, record.bytes):
            # All of the budget is on its way; some of it has arrived in a moment.
            time.sleep(_LOOK_S)
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)
            reserved.unlink(missing_ok=True)

    def _reserve(self, reserved: Path, size: int) -> bool:
        """Delete what was used longest ago until `size` fits; return whether it does."""
        with exclusive(self.folder / "locks" / "room.lock", wait=True):
            coming = _files(reserved.parent)
            for used, _, file in coming:
                if time.time() - used > _ABANDONED_S:
                    file.unlink(missing_ok=True)
            files = sorted(_files(self.folder / "files"))
            held = sum(amount for _, amount, file in coming if file.suffix == _RESERVED)
            excess = held + sum(amount for _, amount, _ in files) + size - self.budget
            for _, amount, file in files:
                if excess <= 0:
                    break
                file.unlink(missing_ok=True)
                excess -= amount
            if excess > 0:
                return False
            with reserved.open("wb") as file_of_that_size:
                file_of_that_size.truncate(size)
        return True

    def used_bytes(self) -> int:
        """Return the bytes that all files take."""
        return sum(size for _, size, _ in _files(self.folder / "files"))


def _download(source: Location, record: FileRecord, part: Path) -> None:
    try:
        source.download(part)
    except FileNotFoundError as error:
        raise _changed(source, "it is no longer there") from error
    if sha256_of(part) != record.sha256:
        raise _changed(source, "its SHA-256 differs from the manifest's")


def _used_now(path: Path) -> bool:
    """Mark a file as used just now; return whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Return time of last use, size and path of every file."""
    found = []
    if not folder.is_dir():
        return []
    for entry in os.scandir(folder):
        try:
            state = entry.stat()
        except FileNotFoundError:
            continue
        found.append((state.st_mtime, state.st_size, Path(entry.path)))
    return found


def _changed(source: Location, what: str) -> DataError:
    fix = "run `rayft prepare` again; where it repeats, delete the store's folder first"
    return DataError(Problem(str(source), what, fix))
