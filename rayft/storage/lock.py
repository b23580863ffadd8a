"""One holder at a time: a kernel's lock on this machine, a lease in an object store.

A lease is an object that its holder rewrites every few seconds, each time on condition that it
is still its own. Whoever waits takes it over once it has not changed for a while, as seen by the
waiting process itself: no two clocks are ever compared (Gray and Cheriton 1989, on leases).
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from uuid import uuid4

from rayft.storage.commit import exclusive
from rayft.storage.location import Location
from rayft.storage.state import StorageFault

RENEW_S = 5.0
EXPIRES_S = 60.0
_LOOK_S = 1.0


class Lock(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Raise StorageFault where the lock was lost."""
        ...


@contextmanager
def locked(place: Location, *, holder: str, wait: bool) -> Iterator[Lock]:
    """Hold the lock named by the file `place` for the length of a `with` block.

    Args:
        place: the lock file.
        holder: who holds it, for others to read.
        wait: wait for another holder to finish, instead of raising.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False; its `strerror` says who.
        StorageFault: the object store cannot be reached.
    """
    if place.is_local:
        with _local(place, holder, wait=wait):
            yield _Held()
        return
    lease = _Lease(place, holder)
    lease.acquire(wait=wait)
    try:
        yield lease
    finally:
        lease.release()


class _Held:
    """A lock of the kernel: it cannot be lost."""

    def check(self) -> None:
        """Do nothing."""


@contextmanager
def _local(place: Location, holder: str, *, wait: bool) -> Iterator[None]:
    path = place.path
    try:
        with exclusive(path, wait=wait):
            path.write_text(holder)
            yield
    except BlockingIOError as error:
        raise BlockingIOError(error.errno, path.read_text() or "another process") from error


class _Lease:
    def __init__(self, place: Location, holder: str) -> None:
        self._place = place
        self._holder = holder
        self._token = uuid4().hex
        self._count = 0
        self._version = ""
        self._renewed = time.monotonic()
        self._lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="rayft-lease", daemon=True)

    def check(self) -> None:
        if self._lost or time.monotonic() - self._renewed > EXPIRES_S:
            raise StorageFault(11, f"the lease {self._place} was lost to another process")

    def acquire(self, *, wait: bool) -> None:
        seen, since = "", time.monotonic()
        while not self._place.create(self._content()):
            try:
                content, version = self._place.read_versioned()
            except FileNotFoundError:
                continue
            if version != seen:
                if seen and not wait:
                    # It was renewed before our eyes: its holder is alive.
                    raise BlockingIOError(11, _holder_of(content))
                seen, since = version, time.monotonic()
            expired = time.monotonic() - since > EXPIRES_S
            if expired and self._place.replace(self._content(), version=version):
                break
            time.sleep(_LOOK_S)
        self._version = self._place.read_versioned()[1]
        self._renewed = time.monotonic()
        self._thread.start()

    def release(self) -> None:
        self._released.set()
        self._thread.join()
        if not self._lost and self._place.replace(b"free", version=self._version):
            self._place.delete()

    def _renew(self) -> None:
        while not self._released.wait(RENEW_S):
            self._count += 1
            try:
                if not self._place.replace(self._content(), version=self._version):
                    self._lost = True
                    return
                self._version = self._place.read_versioned()[1]
                self._renewed = time.monotonic()
            except OSError:
                continue

    def _content(self) -> bytes:
        fields = {"holder": self._holder, "token": self._token, "count": self._count}
        return json.dumps(fields).encode()


def _holder_of(content: bytes) -> str:
    try:
        return str(json.loads(content)["holder"])
    except (ValueError, KeyError, TypeError):
        return "another process"
