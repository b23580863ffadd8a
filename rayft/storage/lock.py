"""One holder at a time: a kernel's lock on this machine, a lease in an object store."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from rayft.storage.commit import exclusive
from rayft.storage.lease import Lease
from rayft.storage.location import Location


class Lock(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Raise StorageFault where the lock was lost, or may have been."""
        ...


@contextmanager
def locked(place: Location, *, holder: str, wait: bool) -> Iterator[Lock]:
    """Hold the lock named by the file `place` for the length of a `with` block.

    A lock on this machine is the kernel's and ends with its process. One in an object store is
    a lease, which outlives a killed process by `lease.EXPIRES_S`; so a call that does not wait
    still looks for that long at most whether the holder is alive, which an answer of the holder
    in `lease.RENEW_S` cuts short.

    Args:
        place: the lock file. It stays when the lock is released.
        holder: who holds it, for others to read.
        wait: wait for another holder to finish, instead of raising.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False; its `strerror` says who.
        StorageFault: the object store cannot be reached.
    """
    if place.is_local:
        with _local(place.path, holder, wait=wait):
            yield _Held()
        return
    lease = Lease(place, holder)
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
def _local(path: Path, holder: str, *, wait: bool) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(path, wait=wait))
        except BlockingIOError as error:
            other = path.read_text(encoding="utf-8", errors="replace")
            raise BlockingIOError(errno.EAGAIN, other or "another process") from error
        path.write_text(holder, encoding="utf-8")
        yield
