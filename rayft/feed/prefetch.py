"""Make batches ahead in a thread, so that the device does not wait for them."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

T = TypeVar("T")


class _End:
    """Marks the end of the stream, and carries the error that caused it, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Prefetch(Generic[T]):
    """Iterate over `source`, up to `depth` items ahead of the reader.

    An error in the source is raised to the reader at its place in the stream. Use as a context
    manager: leaving it ends the thread, also where the reader stops early.
    """

    def __init__(self, source: Iterable[T], *, depth: int = 2) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(iter(source),), name="rayft-prefetch", daemon=True
        )

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._read()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _fill(self, source: Iterator[T]) -> None:
        error: BaseException | None = None
        try:
            for item in source:
                if not self._put(item):
                    return
        except BaseException as caught:  # noqa: BLE001  raised again where the reader stands
            error = caught
        self._put(_End(error))

    def _put(self, item: T | _End) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def _read(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item


def ahead(source: Iterable[T], *, device: str) -> AbstractContextManager[Iterator[T]]:
    """Iterate over `source`, ahead of the reader where what reads computes on another device.

    Args:
        source: what is made on the CPU.
        device: type of the device that computes, as torch names it.
    """
    if device == "cpu":
        return nullcontext(iter(source))
    return Prefetch(source)
