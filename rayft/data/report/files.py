"""Findings about files: those that cannot be read, and those whose type is not what they say."""

import os
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from rayft.data.listing import Listing
from rayft.data.readers import FileRows, open_regular, printable
from rayft.data.report.finding import MAX_EXAMPLES, Example, Finding
from rayft.data.report.rows import row_name
from rayft.plan.facts import SplitName
from rayft.store.dataset import Dataset
from rayft.transforms.decode import Unreadable

_TYPES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WebP": (".webp",),
}
_TYPE_OF = {suffix: kind for kind, suffixes in _TYPES.items() for suffix in suffixes}
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)
_HEADER_BYTES = 16


def unreadable_rows(dataset: Dataset, sources: Mapping[SplitName, Listing]) -> Finding:
    """Return the rows that were put aside when the rows were prepared, with the reasons."""
    examples: list[Example] = []
    count = 0
    for source in sources:
        store = dataset.splits[source].store
        quarantined = store.manifest.quarantined
        count += len(quarantined)
        for bad in quarantined[: MAX_EXAMPLES - len(examples)]:
            name = row_name(store, bad.row, source=source, split=source)
            examples.append(Example(row=name, detail=bad.reason))
    return Finding(
        name="unreadable",
        title="unreadable images",
        rule="Images that cannot be decoded. They are in no split, whatever the list says.",
        count=count,
        examples=tuple(examples),
    )


def wrong_types(dataset: Dataset, sources: Mapping[SplitName, Listing]) -> Finding:
    """Return the files whose first bytes are of another type than their suffix says.

    They are read correctly here, by their bytes; other programs may go by the name.
    """
    examples: list[Example] = []
    count, unknown = 0, 0
    for source, listing in sources.items():
        store, reader = dataset.splits[source].store, listing.reader
        if not isinstance(reader, FileRows):
            continue
        if not reader.root.is_local:
            unknown += listing.num_rows
            continue
        left_out = set(dataset.ref.splits[source].left_out)
        for row, detail in _wrong_rows(reader):
            if row in left_out:
                continue
            count += 1
            if len(examples) < MAX_EXAMPLES:
                name = row_name(store, row, source=source, split=source)
                examples.append(Example(row=name, detail=detail))
    note = f"{unknown:,} files of an object store were not looked at" if unknown else ""
    return Finding(
        name="wrong_type",
        title="files of another type than their name",
        rule="Files whose first bytes are of another type of image than their suffix says; rayft "
        "goes by the bytes.",
        count=count,
        examples=tuple(examples),
        note=note,
    )


def image_type(start: bytes) -> str | None:
    """Return the type of image that a file begins like; None where it is none that is known."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    return next((kind for magic, kind in _STARTS if start.startswith(magic)), None)


def _wrong_rows(reader: FileRows) -> Iterator[tuple[int, str]]:
    root = os.path.realpath(reader.root.path)
    for row, path in enumerate(reader.paths):
        suffix = PurePosixPath(path).suffix.lower()
        said = _TYPE_OF.get(suffix)
        is_one = image_type(_start(root, path, confined=reader.confined)) if said else None
        if is_one and is_one != said:
            yield row, f"it is {is_one} and is called {printable(suffix)}"


def _start(root: str, path: str, *, confined: bool) -> bytes:
    descriptor = open_regular(root, path, confined=confined)
    if isinstance(descriptor, Unreadable):
        return b""
    try:
        return os.read(descriptor, _HEADER_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
