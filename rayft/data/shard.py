"""Making one shard of a row store. The same function runs in Ray tasks and in a plain loop."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from rayft.data.listing import Listing
from rayft.data.readers import Raw, Reader
from rayft.errors import DataError, Problem
from rayft.store.manifest import QuarantinedRow, ShardEntry
from rayft.store.shards import ShardColumns, rows_per_shard, write_shard
from rayft.store.splits import row_hash
from rayft.transforms.decode import Pixels, ResizeMode, Unreadable, decode_image, fit_array


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWork:
    """Everything needed to make one shard."""

    index: int
    first_row: int
    """Id of the shard's first row."""
    reader: Reader
    labels: npt.NDArray[np.int32]
    """[N] places in the store's classes."""
    groups: npt.NDArray[np.uint64] | None
    """[N] hashes of groups, 0 where a row has none; None where the source has no groups."""
    folder: str
    """The folder to write into."""
    stored_size: int
    resize: ResizeMode


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """What a finished shard reports: all that goes back to the driver."""

    index: int
    entry: ShardEntry
    quarantined: tuple[QuarantinedRow, ...]

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what `to_json` wrote."""
        fields = json.loads(text)
        return cls(
            index=fields["index"],
            entry=ShardEntry(**fields["entry"]),
            quarantined=tuple(QuarantinedRow(**row) for row in fields["quarantined"]),
        )


def cut_into_shards(
    listing: Listing, *, folder: Path, stored_size: int, resize: ResizeMode
) -> list[ShardWork]:
    """Cut a source into the work of one shard each."""
    step = rows_per_shard(stored_size)
    return [
        ShardWork(
            index=index,
            first_row=start,
            reader=listing.reader.cut(start, min(start + step, listing.num_rows)),
            labels=listing.labels.codes[start : start + step],
            groups=None if listing.groups is None else listing.groups[start : start + step],
            folder=str(folder),
            stored_size=stored_size,
            resize=resize,
        )
        for index, start in enumerate(range(0, listing.num_rows, step))
    ]


def make_shard(work: ShardWork) -> ShardReport:
    """Read, decode and resize the rows of one shard and write it; bad rows keep their slot.

    Raises:
        DataError: a whole source file cannot be read, or the shard cannot be written.
    """
    sources = work.reader.sources()
    images = np.zeros((len(sources), work.stored_size, work.stored_size, 3), dtype=np.uint8)
    content_hash = np.zeros(len(sources), dtype=np.uint64)
    bad: dict[int, str] = {}
    for place, raw in enumerate(work.reader.read()):
        content_hash[place] = _content_hash(raw)
        pixels = _decode(raw, work)
        if isinstance(pixels, Unreadable):
            bad[place] = pixels.reason
        else:
            images[place] = pixels
    valid = np.ones(len(sources), dtype=np.bool_)
    valid[list(bad)] = False
    columns = ShardColumns(
        image=images,
        label=work.labels,
        content_hash=content_hash,
        group_hash=_group_hash(work.groups, content_hash),
        valid=valid,
        source=sources,
    )
    return _write(work, columns, bad)


def _write(work: ShardWork, columns: ShardColumns, bad: dict[int, str]) -> ShardReport:
    try:
        entry = write_shard(Path(work.folder), work.index, columns)
    except OSError as error:
        fix = "free space there, or choose another `storage_path`"
        what = f"a shard cannot be written: {error.strerror}"
        raise DataError(Problem(work.folder, what, fix)) from error
    quarantined = tuple(
        QuarantinedRow(row=work.first_row + place, source=columns.source[place], reason=reason)
        for place, reason in bad.items()
    )
    return ShardReport(index=work.index, entry=entry, quarantined=quarantined)


def _decode(raw: Raw, work: ShardWork) -> Pixels | Unreadable:
    match raw:
        case Unreadable():
            return raw
        case np.ndarray():
            return fit_array(raw, size=work.stored_size, resize=work.resize)
        case _:
            return decode_image(raw, size=work.stored_size, resize=work.resize)


def _content_hash(raw: Raw) -> int:
    match raw:
        case Unreadable():
            return 0
        case np.ndarray():
            return row_hash(f"{raw.shape}".encode() + raw.tobytes())
        case _:
            return row_hash(raw)


def _group_hash(
    groups: npt.NDArray[np.uint64] | None, content_hash: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    return content_hash if groups is None else np.where(groups == 0, content_hash, groups)


def in_order(reports: Sequence[ShardReport]) -> list[ShardReport]:
    """Return reports in the order of their shards, however they came in."""
    return sorted(reports, key=lambda report: report.index)
