"""Whether a place can hold runs: asked before anything starts."""

import os
from uuid import uuid4

from rayft.errors import DataError, Problem
from rayft.storage import faults
from rayft.storage.location import Location
from rayft.storage.state import StorageFault

_RIGHTS = {
    "s3": "allow s3:PutObject, s3:GetObject, s3:DeleteObject and s3:ListBucket",
    "gs": "give the role Storage Object User",
}
_TESTS = {"s3": "aws s3 ls {bucket}", "gs": "gcloud storage ls {bucket}"}
_MAKES = {"s3": "aws s3 mb {bucket}", "gs": "gcloud storage buckets create {bucket}"}
_GIVES = {
    "s3": 'give them to every machine; `eval "$(aws configure export-credentials --format env)"` '
    "takes those of ~/.aws, `aws sts get-caller-identity` tests them",
    "gs": "give them to every machine; `gcloud auth application-default print-access-token` tests "
    "them",
}
_IDENTITIES = {
    "s3": "aws sts get-caller-identity",
    "gs": "gcloud auth application-default print-access-token",
}


def check_storage(place: Location, *, setting: str) -> None:
    """Check that a folder can be reached and written to, without making it.

    In an object store also that objects can be listed and deleted, and that the store honours
    the conditions of puts, which locks and commits rest on. An object is written beside what is
    in the folder, and deleted again.

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
    except StorageFault as fault:
        if fault.errno != faults.UNSUPPORTED:
            what = f"{place} cannot be used: {fault.strerror}"
            raise DataError(Problem(setting, what, _fix(place, fault))) from fault
        honoured = False
    if not honoured:
        what = (
            f"{place.bucket} ignores the conditions of puts (If-None-Match, If-Match): two runs "
            "of one name could overwrite each other's checkpoints, and a row store could be seen "
            "half-written"
        )
        fix = "use a store that honours them, such as S3, GCS or MinIO, or a folder all share"
        raise DataError(Problem(setting, what, fix))


def _check_folder(place: Location, setting: str) -> None:
    nearest = place.path
    # Unlike Path.exists, this takes what lies behind a closed folder for missing.
    while not os.access(nearest, os.F_OK) and nearest != nearest.parent:
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
    made = probe.create(b"1")
    try:
        made_again = probe.create(b"2")
        _, version = probe.read_versioned()
        probe.write_bytes(b"3")
        replaced_another = probe.replace(b"4", version=version)
        _, version = probe.read_versioned()
        replaced = probe.replace(b"5", version=version)
        probe.files()
    finally:
        probe.delete()
    return made and replaced and not made_again and not replaced_another


def _fix(place: Location, fault: StorageFault) -> str:
    scheme = place.bucket.split(":")[0]
    test = _TESTS[scheme].format(bucket=place.bucket)
    if fault.errno == faults.NO_BUCKET:
        make = _MAKES[scheme].format(bucket=place.bucket)
        return f"make it with `{make}`, or correct its name; `{test}` tests it"
    if fault.errno == faults.NO_CREDENTIALS:
        return _GIVES[scheme]
    if fault.errno == faults.REFUSED:
        who = _IDENTITIES[scheme]
        return f"{_RIGHTS[scheme]} on it to the user that `{who}` names, or use other credentials"
    if fault.errno == faults.WRONG_REGION:
        name = place.bucket.split("/")[-1]
        look = f"aws s3api get-bucket-location --bucket {name}"
        return f"set AWS_REGION on every machine; `{look}` tells the region"
    endpoint = "AWS_ENDPOINT_URL" if scheme == "s3" else "the network"
    return f"check {endpoint} on every machine; `{test}` tests the way there"
