"""Puts on a condition: where there is nothing yet, where it still is a version.

A conditional put whose answer is lost cannot simply be tried again: the second try would find
the object that the first one made, and take it for another's. So each carries a token in the
object's metadata, and is known again by it.
"""

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError

from rayft.storage import client
from rayft.storage.client import store_of
from rayft.storage.faults import is_network, storage_faults
from rayft.storage.object_store import object_key

if TYPE_CHECKING:
    from obstore import PutMode

_TOKEN = "rayft-write"  # noqa: S105  no secret


def create(bucket: str, key: str, content: bytes | memoryview) -> str | None:
    """Put an object where there is none; return its version, or None where there is one."""
    return _put_if(bucket, key, content, "create")


def replace(bucket: str, key: str, content: bytes | memoryview, *, version: str) -> str | None:
    """Put an object where it still is `version`; return its new version, or None."""
    mode: PutMode = {"e_tag": version}
    if bucket.startswith("gs://"):
        # Google's conditions are on the number of the generation, which a listing does not give.
        try:
            with storage_faults(bucket, key):
                found = obstore.head(store_of(bucket), object_key(bucket, key))
        except FileNotFoundError:
            return None
        if found["e_tag"] != version:
            return None
        mode = {"e_tag": version, "version": found["version"]}
    return _put_if(bucket, key, content, mode)


def _put_if(bucket: str, key: str, content: bytes | memoryview, mode: "PutMode") -> str | None:
    token = uuid4().hex
    pause, until = 0.1, time.monotonic() + client.RETRY_S
    while True:
        with storage_faults(bucket, key):
            try:
                return _put_once(bucket, key, content, mode=mode, token=token)
            except (AlreadyExistsError, PreconditionError) as error:
                if "NoSuchBucket" in str(error):
                    raise
                there = _written(bucket, key)
                if there is not None or mode != "create":
                    return there[1] if there is not None and there[0] == token else None
                # Refused, and yet it is not there: a write or a deletion of another is under way.
                if time.monotonic() > until:
                    raise
            except GenericError as error:
                if not is_network(error) or time.monotonic() > until:
                    raise
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def _put_once(
    bucket: str, key: str, content: bytes | memoryview, *, mode: "PutMode", token: str
) -> str:
    body = memoryview(content).cast("B")
    result = obstore.put(
        store_of(bucket, sends=len(body)),
        object_key(bucket, key),
        body,
        mode=mode,
        use_multipart=False,
        attributes={_TOKEN: token},
    )
    return result["e_tag"] or ""


def _written(bucket: str, key: str) -> tuple[str, str] | None:
    """Return the token of the put that wrote an object, and its version."""
    try:
        with storage_faults(bucket, key):
            found = obstore.get(store_of(bucket), key, options={"head": True})
    except FileNotFoundError:
        return None
    return str(found.attributes.get(_TOKEN, "")), found.meta["e_tag"] or ""
