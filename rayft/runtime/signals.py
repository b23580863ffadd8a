"""Signals to the driver: the first asks the run to save and stop, a second ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rayft.runtime.job import Job


@contextmanager
def stop_on_signals(job: Job) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a request to save and stop, a second into an end.

    Only the main thread can take signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop_file = job.folder.stop_file(job.attempt)

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if stop_file.exists():
            os._exit(128 + number)
        stop_file.write_text(str(number))

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_signal(job: Job) -> int:
    """Return the number of the signal that asked the attempt to stop, 0 where none did."""
    file: Path = job.folder.stop_file(job.attempt)
    return int(file.read_text() or 0) if file.exists() else 0
