"""The journal of a run: rank 0 writes events, the driver reads them as they come.

It must outlive every process, so it lies with the run. On a disk it is one file; a torn last line
is waited for, or ignored once its writer is dead. In an object store, where nothing can be
appended, it is a folder of pieces, written in the background so that no step waits for the network.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from rayft.engine.ports import Events, Json
from rayft.storage.location import Location
from rayft.storage.state import StorageFault

Event = dict[str, Json]
ENDS = frozenset({"finished", "stopped", "failed"})
"""Kinds of events that end an attempt."""
_LOOK_EVERY_S = 0.2
_REMOTE_EVERY_S = 1.0


class Reader(Protocol):
    """Reads the events of one attempt, as far as they are written."""

    def new_events(self, *, last: bool = False) -> Iterator[Event]:
        """Yield the events written since the last call; with `last`, look in any case."""
        ...


def open_journal(run: Location, *, attempt: int, stop_file: Location) -> Events:
    """Return where an attempt at the run in the folder `run` writes its events."""
    if run.is_local:
        file = (run / "journal.jsonl").path
        return FileJournal(file, attempt=attempt, stop_file=stop_file.path)
    return RemoteJournal(_pieces(run, attempt), attempt=attempt, stop_file=stop_file)


def read_journal(run: Location, *, attempt: int) -> Reader:
    """Return a reader of what an attempt writes from now on."""
    if run.is_local:
        return FileReader((run / "journal.jsonl").path, attempt=attempt)
    return RemoteReader(_pieces(run, attempt), attempt=attempt)


def _pieces(run: Location, attempt: int) -> Location:
    return run / "journal" / f"attempt-{attempt:06d}"


def _line(kind: str, attempt: int, values: Mapping[str, Json]) -> bytes:
    event = {"kind": kind, "attempt": attempt, "time": time.time(), **values}
    return (json.dumps(event) + "\n").encode()


class FileJournal:
    """Appends events of one attempt to a file."""

    def __init__(self, file: Path, *, attempt: int, stop_file: Path) -> None:
        self._file = file
        self._attempt = attempt
        self._stop_file = stop_file
        self._looked_at = 0.0
        self._stop = False

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Append one event as one write, so that a reader never sees two mixed."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, _line(kind, self._attempt, values))
        finally:
            os.close(descriptor)

    def stop_requested(self) -> bool:
        """Return whether the stop file is there; looks at most five times a second."""
        now = time.monotonic()
        if not self._stop and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._stop = self._stop_file.exists()
        return self._stop


class RemoteJournal:
    """Puts events of one attempt into an object store, and looks there for the stop file.

    Both happen in a thread, about once a second. An event that ends the attempt is put at once.
    """

    def __init__(self, folder: Location, *, attempt: int, stop_file: Location) -> None:
        self._folder = folder
        self._attempt = attempt
        self._stop_file = stop_file
        self._stop = threading.Event()
        self._over = threading.Event()
        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Take an event to be put soon.

        Raises:
            StorageFault: an event that ends the attempt cannot be put.
        """
        with self._lock:
            self._lines.append(_line(kind, self._attempt, values))
        if kind in ENDS:
            self._put()
            self._over.set()
        else:
            self._start()

    def stop_requested(self) -> bool:
        """Return whether the stop file has been seen."""
        self._start()
        return self._stop.is_set()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="rayft-journal", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while not self._over.wait(_REMOTE_EVERY_S):
            try:
                self._put()
                if not self._stop.is_set() and self._stop_file.exists():
                    self._stop.set()
            except StorageFault:
                # Telemetry: what could not be put now is put with what comes next.
                continue

    def _put(self) -> None:
        with self._lock:
            if not self._lines:
                return
            # Named by time: several processes may end an attempt, and a restarted one goes on.
            name = f"{time.time_ns():020d}-{uuid4().hex[:8]}.jsonl"
            (self._folder / name).write_bytes(b"".join(self._lines))
            self._lines.clear()


class FileReader:
    """Reads the events of one attempt from a file, as far as they are written."""

    def __init__(self, file: Path, *, attempt: int) -> None:
        self._file = file
        self._attempt = attempt
        self._offset = file.stat().st_size if file.is_file() else 0
        self._rest = b""

    def new_events(self, *, last: bool = False) -> Iterator[Event]:
        """Yield the events written since the last call."""
        del last
        if not self._file.is_file():
            return
        with self._file.open("rb") as stream:
            stream.seek(self._offset)
            chunk = stream.read()
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        yield from _events(lines, self._attempt)


class RemoteReader:
    """Reads the events of one attempt from an object store; looks about once a second."""

    def __init__(self, folder: Location, *, attempt: int) -> None:
        self._folder = folder
        self._attempt = attempt
        self._seen: set[str] = set()
        self._looked_at = 0.0

    def new_events(self, *, last: bool = False) -> Iterator[Event]:
        """Yield the events put since the last call; with `last`, look in any case."""
        now = time.monotonic()
        if now - self._looked_at < _REMOTE_EVERY_S and not last:
            return
        self._looked_at = now
        try:
            names = self._folder.children()
        except StorageFault:
            # The next look may succeed; whether the run can go on is for its workers to tell.
            return
        for name in names:
            if name not in self._seen:
                lines = (self._folder / name).read_bytes().split(b"\n")
                self._seen.add(name)
                yield from _events(lines, self._attempt)


def _events(lines: list[bytes], attempt: int) -> Iterator[Event]:
    for line in lines:
        event = parse_event(line)
        if event is not None and event.get("attempt") == attempt:
            yield event


def parse_event(line: bytes) -> Event | None:
    """Return the event of a line; None where its writer died in the middle of it."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


class NoEvents:
    """For every rank but 0."""

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Drop the event."""

    def stop_requested(self) -> bool:
        """Leave stopping to rank 0."""
        return False
