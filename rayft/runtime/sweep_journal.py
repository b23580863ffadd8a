"""The journal of a sweep: what was asked, begun, reported and decided, in the order it happened.

It is all that a sweep knows; whoever reads it from the start comes to the same state. What
`append` has returned from is kept whatever dies afterwards, and what it has not returned from is
there whole or not at all. One process writes, any number read.
"""

import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from rayft.engine.ports import Json
from rayft.errors import Problem, TrainingError
from rayft.runtime.journal import Event, parse_event
from rayft.storage.commit import flush
from rayft.storage.location import Location
from rayft.storage.state import StorageFault

_READERS = 16
"""Pieces that are read at a time from an object store."""
_BLOCK = 65536


class SweepJournal(Protocol):
    """Keeps the events of one sweep."""

    def read(self) -> list[Event]:
        """Return every event, oldest first."""
        ...

    def append(self, event: Mapping[str, Json]) -> None:
        """Keep one event, with the time; it is kept for good once this returns.

        Raises:
            OSError: the disk or the object store refused. A disk then holds nothing of it.
        """
        ...


def open_sweep_journal(sweep: Location) -> SweepJournal:
    """Return the journal of the sweep in the folder `sweep`; nothing is written until asked."""
    if sweep.is_local:
        return FileSweepJournal((sweep / "sweep.jsonl").path)
    return RemoteSweepJournal(sweep / "sweep")


class FileSweepJournal:
    """A file, and an event a line."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> list[Event]:
        """Return every event; the last line is left out where its writer died in the middle."""
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return []
        return _events(content)

    def append(self, event: Mapping[str, Json]) -> None:
        """Write one line to the disk."""
        is_new = not self._file.exists()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = _whole_lines(descriptor)
            os.ftruncate(descriptor, size)
            _write_line(descriptor, _line(event), size)
        finally:
            os.close(descriptor)
        if is_new:
            flush(self._file.parent)


class RemoteSweepJournal:
    """A folder of numbered pieces, and an event each: nothing can be appended to an object.

    A piece is put where there is none, so that a second writer is found out and not mixed in.
    """

    def __init__(self, folder: Location) -> None:
        self._folder = folder
        self._next: int | None = None
        self._fault: StorageFault | None = None

    def read(self) -> list[Event]:
        """Return every event."""
        names = self._folder.children()
        with ThreadPoolExecutor(_READERS) as readers:
            pieces = readers.map(lambda name: (self._folder / name).read_bytes(), names)
            return [event for piece in pieces for event in _events(piece)]

    def append(self, event: Mapping[str, Json]) -> None:
        """Put one piece.

        Raises:
            TrainingError: another process writes too.
            StorageFault: the object store refused, now or before.
        """
        if self._fault is not None:
            # What was refused may be there: only who reads from the start knows.
            raise self._fault
        if self._next is None:
            self._next = len(self._folder.children())
        piece = self._folder / f"{self._next:08d}.jsonl"
        try:
            is_mine = piece.create(_line(event))
        except StorageFault as fault:
            self._fault = fault
            raise
        if not is_mine:
            what = "another process goes on with the sweep"
            raise TrainingError(Problem(str(self._folder.parent), what, "let one of them run"))
        self._next += 1


def _line(event: Mapping[str, Json]) -> bytes:
    return (json.dumps({**event, "time": time.time()}) + "\n").encode()


def _events(content: bytes) -> list[Event]:
    found = (parse_event(line) for line in content.split(b"\n")[:-1])
    return [event for event in found if event is not None]


def _whole_lines(descriptor: int) -> int:
    """Return the bytes of the lines that are whole.

    What follows them was never acknowledged, and a reader passes over it. It must go before the
    next line is written: half a line would swallow that, and a line that only lacks its end would
    come to life, though this process has gone on without it.
    """
    size = os.fstat(descriptor).st_size
    while size:
        block = os.pread(descriptor, min(size, _BLOCK), size - min(size, _BLOCK))
        end = block.rfind(b"\n")
        if end >= 0:
            return size - len(block) + end + 1
        size -= len(block)
    return 0


def _write_line(descriptor: int, line: bytes, size: int) -> None:
    """Write a line at the end of a file and wait for the disk; leave the file as it was if not."""
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
