"""Signals to the driver: the first asks the run to save and stop, a second ends it at once.

`ray job stop` sends SIGTERM to the driver once and kills it some seconds later; a terminal sends
SIGINT at every Ctrl-C.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rayft.runtime.job import Job

_log = logging.getLogger(__name__)


class StopRequest:
    """What signals have asked for so far."""

    def __init__(self) -> None:
        self.signal = 0
        """Number of the signal that asked to stop; 0 where none did."""


@contextmanager
def stop_request(on_first: Callable[[int], None] | None = None) -> Iterator[StopRequest]:
    """Take the first SIGINT or SIGTERM as a request to stop, a second as an end.

    Only the main thread can take signals; elsewhere this does nothing.

    Args:
        on_first: called with the number of the first signal, in its handler: it must not wait.
            What it raises comes out of whatever the main thread is doing.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if request.signal:
            os._exit(128 + number)
        request.signal = number
        if on_first is not None:
            on_first(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_on_signals(job: "Job") -> AbstractContextManager[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request to save and stop, a second into an end."""

    def on_first(number: int) -> None:
        # In a thread: the file may lie in an object store, and a handler must not wait for one.
        threading.Thread(target=_ask, args=(job, number), name="rayft-stop", daemon=True).start()

    return stop_request(on_first)


def _ask(job: "Job", number: int) -> None:
    try:
        job.folder.stop_file(job.attempt).write_bytes(str(number).encode())
    except OSError as error:
        _log.error("the workers could not be asked to stop: %s", error)


def exit_on_sigterm() -> None:
    """Let SIGTERM end the process in good order, with the exit code that shells expect of it.

    Ray, once connected, would end it with 15, which says nothing.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)
