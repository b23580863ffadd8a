"""Whether a place can hold runs: asked before anything starts."""

import os
from uuid import uuid4

from rayft.errors import DataError, Problem
from rayft.storage.location import Location
from rayft.storage.state import StorageFault


def check_storage(place: Location, *, setting: str) -> None:
    """Check that a folder can be reached and written to, without making it.

    In an object store also that it honours conditions of puts, which locks and commits rest on.

    Args:
        place: the folder.
        setting: the setting that names it, for the message.

    Raises:
        DataError: it cannot be used.
    """
    if place.is_local:
        _check_folder(place, setting)
        return
    try:
        honoured = _honours_conditions(place / f".probe-{uuid4().hex}")
    except StorageFault as error:
        scheme = place.bucket.split(":")[0]
        test = (
            f"aws s3 ls {place.bucket}" if scheme == "s3" else f"gcloud storage ls {place.bucket}"
        )
        what = f"{place} cannot be used: {error.strerror}"
        raise DataError(Problem(setting, what, f"test the access with `{test}`")) from error
    if not honoured:
        raise DataError(
            Problem(
                setting,
                f"{place.bucket} ignores conditions of puts (If-None-Match, If-Match): two runs of "
                "one name could write over each other's checkpoints, and a row store could be seen "
                "half-written",
                "use a store that honours them, or a shared folder",
            )
        )


def _check_folder(place: Location, setting: str) -> None:
    nearest = place.path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise DataError(
            Problem(
                setting,
                f"no permission to write to {nearest}",
                f"choose another {setting}, or change the permission",
            )
        )


def _honours_conditions(probe: Location) -> bool:
    try:
        first, second = probe.create(b"1"), probe.create(b"2")
        _, version = probe.read_versioned()
        probe.write_bytes(b"3")
        return first and not second and not probe.replace(b"4", version=version)
    finally:
        probe.delete()
