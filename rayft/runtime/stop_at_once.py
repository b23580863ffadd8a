"""A signal while there is nothing to save stops at once: while predicting, or filling a cache.

The main thread is taken out of whatever it waits for. It waits for
Ray by itself, and not in a thread: Ray crashes where it is left while a thread waits in it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rayft.runtime.signals import stop_request


class StoppedBySignal(BaseException):  # a request, like KeyboardInterrupt, which no library eats
    """A signal asked to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal = signal_number


@contextmanager
def stopping_on_signals() -> Iterator[Callable[[], None]]:
    """Raise `StoppedBySignal` in the main thread at the first SIGINT or SIGTERM.

    Gives a function that raises it again where a signal came at a point that eats exceptions, such
    as a destructor. Only the main thread can take signals; elsewhere nothing stops.
    """

    def check() -> None:
        if request.signal:
            _stop(request.signal)

    with stop_request(_stop) as request:
        yield check


def _stop(number: int) -> None:
    raise StoppedBySignal(number)
