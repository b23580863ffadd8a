"""What a rule finds, and what rules share."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

DIGEST = re.compile(r"^[\w.:/-]+@sha256:[0-9a-f]{64}$")
_NETWORK = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:]*::[0-9a-fA-F:]*)/\d{1,3}"
)


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend."""

    rule: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.text}"


def open_networks(value: Any, where: str = "") -> Iterator[Finding]:
    """Yield every network in a tree that is so wide that it means everybody."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from open_networks(inner, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from open_networks(inner, f"{where}[{index}]")
    elif isinstance(value, str):
        for found in _NETWORK.findall(value):
            if ipaddress.ip_network(found, strict=False).prefixlen < 8:
                yield Finding("world", where, f"{found} lets the whole internet in")
