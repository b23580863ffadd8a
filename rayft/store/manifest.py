"""What a row store says about itself: `manifest.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rayft.errors import DataError, Problem

FORMAT_VERSION = 1
"""Raised whenever shards or manifest change in a way that old code would misread."""

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """One shard file."""

    file: str
    sha256: str
    rows: int
    bytes: int
    """Size of the file on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRow:
    """A row that was put aside because its image cannot be read."""

    row: int
    """The row's id; its slot stays, so the ids after it do not move."""
    source: str
    """The file, or file and row, that it came from."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole of a row store, except its rows."""

    key: str
    """Hash of everything the store was made from; the same key means the same bytes."""
    stored_size: int
    """Height and width of every image in pixels."""
    rows_per_shard: int
    """Rows in every shard but the last."""
    classes: tuple[str, ...]
    """Label names as the source writes them; the `label` column holds places in this list."""
    shards: tuple[ShardEntry, ...]
    quarantined: tuple[QuarantinedRow, ...]
    format_version: int = FORMAT_VERSION

    @property
    def num_rows(self) -> int:
        """Slots in the store, those of quarantined rows included."""
        return sum(shard.rows for shard in self.shards)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all shards on disk."""
        return sum(shard.bytes for shard in self.shards)

    def to_json(self) -> str:
        """Return the manifest as JSON text, the same for equal manifests."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            ValueError: the text is not a manifest of this format version.
        """
        fields: dict[str, Any] = json.loads(text)
        if fields.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"expected format version {FORMAT_VERSION}, found {fields.get('format_version')}"
            )
        fields["classes"] = tuple(fields["classes"])
        fields["shards"] = tuple(ShardEntry(**entry) for entry in fields["shards"])
        fields["quarantined"] = tuple(QuarantinedRow(**row) for row in fields["quarantined"])
        if any(Path(shard.file).name != shard.file for shard in fields["shards"]):
            raise ValueError("a shard lies outside the store")
        return cls(**fields)


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of the row store in `folder`.

    Raises:
        DataError: it is missing, damaged or of another format version.
    """
    path = folder / MANIFEST_NAME
    fix = "delete the folder and run `rayft prepare` again"
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(Problem(str(path), f"cannot be read: {error.strerror}", fix)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(Problem(str(path), f"is no manifest: {error}", fix)) from error
