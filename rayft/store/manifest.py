"""What a row store says about itself: `manifest.json`, written last."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from rayft.errors import DataError, Problem
from rayft.spec.data import RGB, ResizeMode
from rayft.storage.location import Location

FORMAT_VERSION = 2
"""Raised whenever files or manifest change in a way that old code would misread."""

MANIFEST_NAME = "manifest.json"

T = TypeVar("T")
StoredAs = Literal["decoded", "encoded"]
"""Pixels of one size, or each image's file as it came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One file of a store beside the manifest."""

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
    stored_as: StoredAs
    stored_size: int
    """Height and width in pixels of every image once it is decoded."""
    resize: ResizeMode
    """How an image becomes square; decoding an encoded store needs it."""
    rows_per_shard: int
    """Rows in every shard but the last."""
    classes: tuple[str, ...]
    """Label names as the source writes them; the `label` column holds places in this list."""
    index: FileRecord
    """The small columns of all rows."""
    shards: tuple[FileRecord, ...]
    """The images."""
    quarantined: tuple[QuarantinedRow, ...]
    channels: int = RGB
    """Of every image once it is decoded; manifests did not always say that it is 3."""
    format_version: int = FORMAT_VERSION

    @property
    def num_rows(self) -> int:
        """Slots in the store, those of quarantined rows included."""
        return sum(shard.rows for shard in self.shards)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all shards and of the index on disk."""
        return sum(shard.bytes for shard in self.shards) + self.index.bytes

    def to_json(self) -> str:
        """Return the manifest as JSON text, the same for equal manifests."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
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
        fields["index"] = file_record(fields["index"])
        fields["shards"] = tuple(file_record(entry) for entry in fields["shards"])
        fields["quarantined"] = tuple(QuarantinedRow(**row) for row in fields["quarantined"])
        return cls(**fields)


def file_record(fields: Mapping[str, Any]) -> FileRecord:
    """Return what a manifest says of a file, from its JSON fields.

    Raises:
        ValueError: the file lies outside the store, or its hash is none.
        TypeError: fields are missing or unknown.
    """
    record = FileRecord(**fields)
    if Path(record.file).name != record.file:
        raise ValueError("a file lies outside the store")
    if len(record.sha256) != 64 or not set(record.sha256) <= set("0123456789abcdef"):
        raise ValueError("a hash is no SHA-256")
    return record


def load_manifest(folder: Location) -> Manifest:
    """Read the manifest of the row store in `folder`.

    Raises:
        DataError: it is missing, damaged or of another format version.
    """
    fix = "delete the folder and run `rayft prepare` again"
    return read_manifest(folder, Manifest.from_json, fix=fix)


def read_manifest(folder: Location, from_json: Callable[[bytes], T], *, fix: str) -> T:
    """Return what `from_json` makes of the manifest in `folder`.

    Args:
        folder: the store.
        from_json: reads a manifest, and raises what reading JSON raises.
        fix: what helps where it is damaged, for the message.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / MANIFEST_NAME
    try:
        return from_json(path.read_bytes())
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise DataError(Problem(str(path), what, fix)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(Problem(str(path), f"is no manifest: {error}", fix)) from error
