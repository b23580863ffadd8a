"""Signals while predicting: the first asks to stop, a second ends the process at once."""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

from rayft.runtime.signals import StopRequest, stop_request

T = TypeVar("T")
_LOOK_EVERY_S = 0.2


class StoppedBySignal(Exception):  # noqa: N818  a request that was honoured, not a fault
    """A signal asked to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal = signal_number


def until_stopped(source: Iterator[T]) -> Iterator[T]:
    """Give the items of `source`, which runs in a thread, so that waiting for one can be stopped.

    The first SIGINT or SIGTERM stops, a second one ends the process at once. Only the main thread
    can take signals; in another one nothing stops but the source.

    Raises:
        StoppedBySignal: a signal asked for it. The source ends after its next item.
        Exception: what the source raised, in its place.
    """
    heard: queue.Queue[T | _End] = queue.Queue()
    with stop_request() as request:
        threading.Thread(
            target=_put_all, args=(source, heard, request), name="rayft-predict", daemon=True
        ).start()
        while not request.signal:
            try:
                item = heard.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                continue
            if not isinstance(item, _End):
                yield item
            elif item.error is None:
                return
            else:
                raise item.error
        raise StoppedBySignal(request.signal)


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _put_all(source: Iterator[T], heard: "queue.Queue[T | _End]", request: StopRequest) -> None:
    try:
        for item in source:
            heard.put(item)
            if request.signal:
                break
    except BaseException as error:  # noqa: BLE001  raised where the items are taken
        heard.put(_End(error))
    else:
        heard.put(_End(None))
