"""Amounts of bytes as people write them: `50 GB`."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

_PATTERN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(MB|GB|TB)\s*$")
_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(text: str) -> int:
    """Read `500 MB`, `50 GB` or `1.5 TB`, and return bytes.

    Raises:
        ValueError: the text is none of these, or nothing at all.
    """
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError(f"expected a size, got {text!r}; write '500 MB', '50 GB' or '1.5 TB'")
    size = int(float(match[1]) * _BYTES[match[2]])
    if size < _BYTES["MB"]:
        raise ValueError(f"expected at least 1 MB, got {text!r}; use 1 MB or more")
    return size


def _check(text: str) -> str:
    parse_size(text)
    return text


SizeText = Annotated[str, AfterValidator(_check), Field(examples=["500 MB", "50 GB", "1.5 TB"])]
"""An amount of bytes in decimal units."""
