"""The journal of a run: rank 0 writes events, the driver reads them as they come.

A plain file, because it must outlive every process; a torn last line is waited for, or ignored
once its writer is dead.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from rayft.engine.ports import Json

Event = dict[str, Json]
_LOOK_EVERY_S = 0.2


class JournalEvents:
    """Appends events of one attempt to the journal."""

    def __init__(self, file: Path, *, attempt: int, stop_file: Path) -> None:
        self._file = file
        self._attempt = attempt
        self._stop_file = stop_file
        self._looked_at = 0.0
        self._stop = False

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Append one event as one write, so that a reader never sees two mixed."""
        event = {"kind": kind, "attempt": self._attempt, "time": time.time(), **values}
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (json.dumps(event) + "\n").encode())
        finally:
            os.close(descriptor)

    def stop_requested(self) -> bool:
        """Return whether the stop file is there; looks at most five times a second."""
        now = time.monotonic()
        if not self._stop and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._stop = self._stop_file.exists()
        return self._stop


class NoEvents:
    """For every rank but 0."""

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Drop the event."""

    def stop_requested(self) -> bool:
        """Leave stopping to rank 0."""
        return False


class JournalReader:
    """Reads the events of one attempt, as far as they are written."""

    def __init__(self, file: Path, *, attempt: int) -> None:
        self._file = file
        self._attempt = attempt
        self._offset = file.stat().st_size if file.is_file() else 0
        self._rest = b""

    def new_events(self) -> Iterator[Event]:
        """Yield the events written since the last call."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as stream:
            stream.seek(self._offset)
            chunk = stream.read()
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            event = _parse(line)
            if event is not None and event.get("attempt") == self._attempt:
                yield event


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        # A writer died in the middle of a line and the next one wrote on.
        return None
    return event if isinstance(event, dict) else None
