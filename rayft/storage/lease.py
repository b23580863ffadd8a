"""A lock in an object store, which holds while it is renewed.

A lease is an object that its holder rewrites every few seconds, each time on condition that it
is still its own. Whoever waits takes it over, on the same condition, once it has seen it
unchanged for as long as the lease says: by its own clock alone, no two are ever compared (Gray
and Cheriton 1989, on leases). The holder counts from before its last renewal was sent, a waiting
process from after it has seen it; so the holder gives up first.
"""

import errno
import json
import logging
import threading
import time
from dataclasses import asdict, dataclass
from typing import final
from uuid import uuid4

from rayft.storage import conditional
from rayft.storage.location import Location
from rayft.storage.state import StorageFault

RENEW_S = 5.0
"""Seconds from one renewal to the next."""
EXPIRES_S = 60.0
"""Seconds without a renewal after which others may take a lease over."""
LOOK_S = 1.0
"""Seconds from one look at another's lease to the next."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Note:
    """What a lease says; `token` is empty where it is free."""

    holder: str
    token: str
    count: int
    expires_s: float

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "_Note":
        try:
            found = json.loads(content)
            return cls(
                str(found["holder"]),
                str(found["token"]),
                int(found["count"]),
                float(found["expires_s"]),
            )
        except (ValueError, KeyError, TypeError):
            return cls("another process", "unknown", 0, EXPIRES_S)


@final
class Lease:
    """A lease, from `acquire` to `release`; a thread renews it."""

    def __init__(self, place: Location, holder: str) -> None:
        self._place = place
        self._holder = holder
        self._token = uuid4().hex
        self._count = 0
        self._version = ""
        self._renewed = 0.0
        self._lost = False
        self._problem = ""
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="rayft-lease", daemon=True)

    def check(self) -> None:
        """Check that nobody else can hold it.

        Raises:
            StorageFault: another process took it over, or may have by now.
        """
        if self._lost:
            raise StorageFault(errno.ESTALE, f"the lease {self._place} was lost to another process")
        since = time.monotonic() - self._renewed
        if since > EXPIRES_S:
            what = f"the lease {self._place} was not renewed for {since:.0f} s"
            raise StorageFault(errno.ESTALE, f"{what}: {self._problem or 'no answer yet'}")

    def acquire(self, *, wait: bool) -> None:
        """Take the lease, once it is free or its holder is dead.

        Raises:
            BlockingIOError: its holder is alive, and `wait` is False; `strerror` says who it is.
            StorageFault: the object store failed.
        """
        seen, since = "", 0.0
        while True:
            asked = time.monotonic()
            found = self._read()
            if found is None:
                version = conditional.create(*self._address, self._note().to_bytes())
            elif not found[0].token or (seen == found[1] and _is_past(since, found[0].expires_s)):
                version = self._replace(self._note(), version=found[1])
            else:
                version = None
                if seen != found[1]:
                    self._tell(found[0], alive=bool(seen), wait=wait)
                    seen, since = found[1], time.monotonic()
                time.sleep(LOOK_S)
            if version is not None:
                self._version, self._renewed = version, asked
                self._thread.start()
                return

    def release(self) -> None:
        """Let others have it. It is left behind as free: a deletion cannot be made conditional."""
        self._released.set()
        self._thread.join()
        if self._lost:
            return
        free = _Note("", "", self._count + 1, EXPIRES_S)
        try:
            self._replace(free, version=self._version)
        except OSError as error:
            # What it protected is done; others only have to wait.
            what = "the lease %s could not be released (%s); others get it in %.0f s"
            _logger.warning(what, self._place, error.strerror, EXPIRES_S)

    def _keep(self) -> None:
        while not self._released.wait(RENEW_S) and not self._lost:
            try:
                self._renew()
            except OSError as error:
                self._problem = error.strerror or str(error)

    def _renew(self) -> None:
        asked = time.monotonic()
        self._count += 1
        version = self._replace(self._note(), version=self._version)
        if version is not None:
            self._version, self._renewed = version, asked
            return
        # It may be our own, from a renewal whose answer was lost.
        found = self._read()
        if found is None or found[0].token != self._token:
            self._lost = True
        else:
            self._version = found[1]

    def _tell(self, note: _Note, *, alive: bool, wait: bool) -> None:
        if not wait and alive:
            raise BlockingIOError(errno.EAGAIN, note.holder)
        if not alive:
            what = "%s is held by %s; it is taken over after %.0f s without a sign of life"
            _logger.info(what, self._place, note.holder, note.expires_s)

    def _note(self) -> _Note:
        return _Note(self._holder, self._token, self._count, EXPIRES_S)

    @property
    def _address(self) -> tuple[str, str]:
        return self._place.bucket, self._place.key

    def _replace(self, note: _Note, *, version: str) -> str | None:
        return conditional.replace(*self._address, note.to_bytes(), version=version)

    def _read(self) -> tuple[_Note, str] | None:
        try:
            content, version = self._place.read_versioned()
        except FileNotFoundError:
            return None
        return _Note.from_bytes(content), version


def _is_past(since: float, seconds: float) -> bool:
    return time.monotonic() - since > seconds
