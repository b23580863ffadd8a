"""What went wrong in an object store, in one line of plain English.

The client's own messages hold addresses, XML and pages of debugging output; addresses may be
signed, and some stores repeat the access key. So only what is known to be harmless is taken
out of them: the status, the store's code and sentence, the reason of the operating system.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PreconditionError,
)

from rayft.storage.state import Changed, StorageFault

NO_BUCKET = errno.ENOENT
NO_CREDENTIALS = errno.EPERM
REFUSED = errno.EACCES
WRONG_REGION = errno.EXDEV
BAD_NAME = errno.EINVAL
UNSUPPORTED = errno.ENOTSUP
UNREACHABLE = errno.EIO
"""`errno` of a `StorageFault`, by its cause."""

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity (AWS_WEB_IDENTITY_TOKEN_"
    "FILE) or the role of the machine; ~/.aws is not read",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login` or the service "
    "account of the machine",
}
_FROM_CREDENTIALS = re.compile(
    r"/latest/api/token|/latest/meta-data|computeMetadata|169\.254\.170\.|OpenCredentials|"
    r"DecodeCredentials|TokenRequest|AssumeRole|MissingAccessKeyId|MissingSecretAccessKey|"
    r"MissingKey|EmptyKey|CredentialsDecode"
)
_REFUSED_CODES = (
    "AccessDenied",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
)
_REASONS = (
    r'message: "([^"]+)"',
    r'error: "([^"]+)"',
    r"InvalidCertificate\(\s*(\w+)",
)


@contextmanager
def storage_faults(bucket: str, key: str) -> Iterator[None]:
    """Turn what the client raises into what a caller of files expects.

    Raises:
        FileNotFoundError: there is no such object.
        Changed: the object is another version than the one asked for.
        StorageFault: anything else.
    """
    try:
        yield
    except PreconditionError as error:
        if _code(str(error)) == "NoSuchBucket":
            raise storage_fault(bucket, error) from error
        raise Changed(errno.ESTALE, "it is no longer as it was", f"{bucket}/{key}") from error
    except FileNotFoundError as error:
        if _code(str(error)) == "NoSuchBucket":
            raise storage_fault(bucket, error) from error
        raise FileNotFoundError(
            errno.ENOENT, "there is no such object", f"{bucket}/{key}"
        ) from error
    except (BaseError, ValueError) as error:
        raise storage_fault(bucket, error) from error


def storage_fault(bucket: str, error: Exception) -> StorageFault:
    """Return what is told of an error of the client."""
    text = str(error)
    code = _code(text)
    if code == "NoSuchBucket":
        return StorageFault(NO_BUCKET, f"there is no bucket {bucket}")
    if isinstance(error, InvalidPathError | ValueError):
        what = text.split("\n\nDebug source")[0].removeprefix("Could not parse path: ")
        return StorageFault(BAD_NAME, _line(f"{bucket} holds or was asked for a bad name: {what}"))
    if _FROM_CREDENTIALS.search(text):
        looked_at = _CREDENTIALS[bucket.split(":")[0]]
        return StorageFault(NO_CREDENTIALS, f"no credentials for {bucket}; looked for {looked_at}")
    # A listing that is refused comes as an error of no kind.
    if re.search(r"status code: 40[13]\b", text) or code in _REFUSED_CODES:
        return StorageFault(REFUSED, f"{bucket} refused the access: {_reason(text)}")
    if "configured region" in text or code in ("AuthorizationHeaderMalformed", "PermanentRedirect"):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        asked = f"AWS_REGION is {region}" if region else "AWS_REGION is not set: us-east-1 is asked"
        return StorageFault(WRONG_REGION, f"{bucket} lies in another region ({asked})")
    if code == "NotImplemented" or "code: 501" in text:
        return StorageFault(UNSUPPORTED, f"{bucket} cannot do this: {_reason(text)}")
    return StorageFault(UNREACHABLE, f"{bucket} cannot be reached: {_reason(text)}")


def is_network(error: BaseError) -> bool:
    """Return whether the answer got lost: what was asked for may have been done, or not."""
    return "HTTP error:" in str(error)


def _code(text: str) -> str:
    # In the answer to a deletion of several, the client reads the code itself.
    found = re.search(r"<Code>(\w+)</Code>", text) or re.search(r'code: "(\w+)"', text)
    return found[1] if found else ""


def _reason(text: str) -> str:
    """Return the store's own words, else what the network said."""
    code = _code(text)
    if code:
        message = re.search(r"<Message>([^<]+)<", text) or re.search(r'message: "([^"]+)"', text)
        return _line(f"{code} ({message[1]})" if message else code)
    status = re.search(r"status code: (\d+ [A-Za-z ]+)", text)
    if status:
        return status[1].strip()
    if "kind: Timeout" in text:
        return "no answer in time"
    for pattern in _REASONS:
        found = re.search(pattern, text)
        if found:
            return _line(found[1])
    return _line(text.split("\n\nDebug source")[0])


def _line(text: str) -> str:
    """Return a text as one line without addresses."""
    return " ".join(re.sub(r"https?://\S+", "the store", text).split())[:300]
