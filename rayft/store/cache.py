"""Shards of remote row stores on this machine's disk, shared by all of its processes.

A cached file is named by its SHA-256, so equal shards of any store are one file, and what is
there is right. Those used longest ago make room for new ones.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from rayft.errors import DataError, Problem
from rayft.storage.commit import exclusive, sha256_of
from rayft.storage.location import Location
from rayft.store.manifest import FileRecord

CACHE_VARIABLE = "RAYFT_CACHE_DIR"
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
    the others wait, and the sum of all is kept within the budget.
    """

    folder: Path
    budget: int
    """Bytes that all files together may take. One file more may be on its way."""

    def path_of(self, record: FileRecord) -> Path:
        """Return where a file is, once it is fetched."""
        return self.folder / "files" / f"{record.sha256}.arrow"

    def fetch(self, store: Location, record: FileRecord) -> Path:
        """Return the path of a store's file on this machine, fetching it where it is missing.

        Raises:
            DataError: it vanished or changed, or does not fit into the budget.
            OSError: it cannot be fetched, or the disk refused.
        """
        path = self.path_of(record)
        if _used_now(path):
            return path
        stripe = int(record.sha256[:8], 16) % _STRIPES
        with exclusive(self.folder / "locks" / f"{stripe:02d}.lock", wait=True):
            if not _used_now(path):
                self._fetch(store / record.file, record, path)
        return path

    def _fetch(self, source: Location, record: FileRecord, path: Path) -> None:
        part = path.with_name(f"{uuid4().hex}.part")
        try:
            self._reserve(part, record)
            source.download(part)
            found = sha256_of(part)
            if found != record.sha256:
                raise _changed(source, "its SHA-256 differs from the manifest's")
            part.replace(path)
        except FileNotFoundError as error:
            raise _changed(source, "it is no longer there") from error
        finally:
            part.unlink(missing_ok=True)

    def _reserve(self, part: Path, record: FileRecord) -> None:
        """Make room, and hold it by a file of the full size."""
        if record.bytes > self.budget:
            what = (
                f"one file of {record.bytes / 1e6:,.0f} MB does not fit into "
                f"{self.budget / 1e6:,.0f} MB"
            )
            raise DataError(Problem("data.local_cache.budget", what, "raise it"))
        part.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / "locks" / "room.lock", wait=True):
            files = sorted(_files(part.parent))
            excess = sum(size for _, size, _ in files) + record.bytes - self.budget
            for used, size, file in files:
                if excess <= 0:
                    break
                if file.suffix == ".part" and time.time() - used < _ABANDONED_S:
                    continue
                file.unlink(missing_ok=True)
                excess -= size
            with part.open("wb") as reserved:
                reserved.truncate(record.bytes)

    def used_bytes(self) -> int:
        """Return the bytes that all files take."""
        return sum(size for _, size, _ in _files(self.folder / "files"))


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
