"""What a member of a tar file is: part of which sample, a label, or nothing that may be there."""

import json
import re
import tarfile
from typing import Any

MAX_LABEL_BYTES = 2**20
_NOTES = re.compile(r"__[^/]*__($|/)")
_DEVICES = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


def split_name(name: str) -> tuple[str, str] | None:
    """Return what the members of a sample share, and what this one ends with, in small letters.

    None for names without an ending, hidden files and WebDataset's own notes (`__x__/...`), which
    belong to no sample.
    """
    if _NOTES.match(name):
        return None
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if stem and extension else None


def read_label(content: bytes, key: str | None) -> str | None:
    """Return the label that a member holds; None where it is empty.

    Args:
        content: the bytes of the member.
        key: where it is JSON, the key of the class.

    Raises:
        ValueError: it is no UTF-8 text, no JSON object, or its value is no text and no integer.
    """
    if len(content) > MAX_LABEL_BYTES:
        raise ValueError(f"it has more than {MAX_LABEL_BYTES:,} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8 text") from None
    return text.strip() or None if key is None else _json_label(text, key)


def _json_label(text: str, key: str) -> str | None:
    match read_object(text).get(key):
        case None:
            return None
        case str() as value:
            return value.strip() or None
        case bool() as value:
            return str(value).lower()
        case int() as value:
            return str(value)
        case value:
            raise ValueError(f"its {key!r} is a {type(value).__name__}")


def read_object(text: str | bytes) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ValueError: it is none.
    """
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    raise ValueError("it is no JSON object")


def member_fault(member: tarfile.TarInfo) -> str | None:
    """Say why no data set should hold a member; None where it may."""
    if member.name.startswith("/"):
        return "an absolute path"
    if ".." in member.name.split("/"):
        return "a path with `..`"
    if member.issparse():
        return "a sparse file"
    if not member.isfile() and not member.isdir():
        return _DEVICES.get(member.type, "of an unknown kind")
    return None
