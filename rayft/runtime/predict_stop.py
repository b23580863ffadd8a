"""Signals while predicting: the first asks to stop, a second ends the process at once."""

import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
_LOOK_EVERY_S = 0.2


class StoppedBySignal(Exception):  # noqa: N818  a request that was honoured, not a fault
    """A signal asked to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal = signal_number


class _Request:
    """What signals have asked for so far."""

    def __init__(self) -> None:
        self.signal = 0


def until_stopped(source: Iterator[T]) -> Iterator[T]:
    """Give the items of `source`, which runs in a thread, so that waiting for one can be stopped.

    The first SIGINT or SIGTERM stops, a second one ends the process at once. Only the main thread
    can take signals; in another one nothing stops but the source.

    Raises:
        StoppedBySignal: a signal asked for it. The source ends after its next item.
        Exception: what the source raised, in its place.
    """
    heard: queue.Queue[T | _End] = queue.Queue()
    with _stop_on_signals() as request:
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


@contextmanager
def _stop_on_signals() -> Iterator[_Request]:
    request = _Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if request.signal:
            os._exit(128 + number)
        request.signal = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _put_all(source: Iterator[T], heard: "queue.Queue[T | _End]", request: _Request) -> None:
    try:
        for item in source:
            heard.put(item)
            if request.signal:
                break
    except BaseException as error:  # noqa: BLE001  raised where the items are taken
        heard.put(_End(error))
    else:
        heard.put(_End(None))
