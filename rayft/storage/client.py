"""The client of a bucket: one for each process, made from the environment when first needed."""

import errno
import os
from datetime import timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.store import from_url

from rayft.storage.faults import storage_faults
from rayft.storage.state import StorageFault

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

RETRY_S = 30.0
"""Seconds from the first try of a request to the last."""
ANSWER_S = 20.0
"""Seconds to wait for an answer, or for more of it."""
PART_S = 120.0
"""The same where a large part travels first: 8 MiB at 0.6 Mbit/s."""
PART_BYTES = 8 * 2**20
SMALL_BYTES = 2**20
PARTS_AT_ONCE = 4

_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_"}
_FROM_ENVIRONMENT = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_excludes")


def store_of(bucket: str, *, sends: int = 0) -> "ObjectStore":
    """Return the client of a bucket.

    Args:
        bucket: `s3://name` or `gs://name`.
        sends: bytes that travel before an answer can come; it is waited for accordingly.

    Raises:
        StorageFault: the environment holds settings that make no sense, or this process was
            forked from one that used a client: its threads are gone, and every call would hang.
    """
    if _first_process() != os.getpid():
        what = "this process was forked from one that uses object stores; start it by `spawn`"
        raise StorageFault(errno.EDEADLK, what)
    prefix = _PREFIXES[bucket.split(":")[0]]
    settings = frozenset(item for item in os.environ.items() if item[0].startswith(prefix))
    with storage_faults(bucket, ""):
        answer_s = ANSWER_S if sends <= SMALL_BYTES else PART_S
        return _make_store(bucket, answer_s, RETRY_S, settings)


@cache
def _first_process() -> int:
    return os.getpid()


@lru_cache(maxsize=32)
def _make_store(
    bucket: str, answer_s: float, retry_s: float, settings: frozenset[tuple[str, str]]
) -> "ObjectStore":
    # The settings are read by the client itself; here they only tell one client from another.
    retry: RetryConfig = {
        "max_retries": 12,
        "retry_timeout": timedelta(seconds=retry_s),
        "backoff": {
            "base": 2,
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
        },
    }
    options = _client_options(_PREFIXES[bucket.split(":")[0]], dict(settings))
    options["connect_timeout"] = timedelta(seconds=5)
    options["read_timeout"] = timedelta(seconds=answer_s)
    # Counts from the request to the last byte: a large object over a slow line takes its time.
    options["timeout"] = timedelta(days=1)
    return from_url(bucket, client_options=options, retry_config=retry)


def _client_options(prefix: str, settings: dict[str, str]) -> "ClientConfig":
    # Options that are passed replace all those of the environment, so these are passed as well.
    found = {
        name: settings[prefix + name.upper()]
        for name in _FROM_ENVIRONMENT
        if prefix + name.upper() in settings
    }
    options: ClientConfig = {**found}  # type: ignore[typeddict-item]  # as text, which is parsed
    bundle = settings.get("AWS_CA_BUNDLE")
    if bundle:
        try:
            options["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            what = f"AWS_CA_BUNDLE names {bundle}, which cannot be read: {error.strerror}"
            raise StorageFault(errno.EIO, what) from error
    return options
