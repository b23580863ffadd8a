"""Signals while predicting: the first stops, a second ends the process at once.

There is nothing to save, so the main thread is taken out of whatever it waits for. It waits for
Ray by itself, and not in a thread: Ray crashes where it is left while a thread waits in it.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StoppedBySignal(BaseException):  # a request, like KeyboardInterrupt, which no library eats
    """A signal asked to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal = signal_number


class StopRequest:
    """What signals have asked for so far."""

    def __init__(self) -> None:
        self.signal = 0

    def check(self) -> None:
        """Raise where a signal came at a point that eats exceptions, such as a destructor.

        Raises:
            StoppedBySignal: it did.
        """
        if self.signal:
            raise StoppedBySignal(self.signal)


@contextmanager
def stopping_on_signals() -> Iterator[StopRequest]:
    """Raise `StoppedBySignal` in the main thread at the first SIGINT or SIGTERM.

    Only the main thread can take signals; elsewhere this does nothing.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        if request.signal:
            os._exit(128 + number)
        request.signal = number
        raise StoppedBySignal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
