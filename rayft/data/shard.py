"""Making one shard of a row store. The same function runs in Ray tasks and in a plain loop."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self, final

import numpy as np
import numpy.typing as npt
from PIL import Image

from rayft.data.form import Form
from rayft.data.listing import Listing
from rayft.data.readers import Raw, Reader
from rayft.errors import DataError, Problem
from rayft.storage.location import Location
from rayft.store.index import RowColumns
from rayft.store.manifest import FileRecord, QuarantinedRow
from rayft.store.shards import Images, write_shard
from rayft.store.splits import row_hash
from rayft.transforms.decode import Pixels, Unreadable, decode_image, fit_array


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
    folder: Location
    """The folder to write into."""
    form: Form


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """What a finished shard reports: all that goes back to the driver."""

    index: int
    entry: FileRecord
    columns: bytes
    """The small columns of its rows, as `RowColumns.to_bytes` gives them."""
    quarantined: tuple[QuarantinedRow, ...]

    def to_json(self) -> str:
        """Return all but the columns as JSON text."""
        fields = {
            "index": self.index,
            "entry": asdict(self.entry),
            "quarantined": [asdict(row) for row in self.quarantined],
        }
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str | bytes, columns: bytes) -> Self:
        """Read back what `to_json` wrote."""
        fields = json.loads(text)
        return cls(
            index=fields["index"],
            entry=FileRecord(**fields["entry"]),
            columns=columns,
            quarantined=tuple(QuarantinedRow(**row) for row in fields["quarantined"]),
        )


def cut_into_shards(
    listing: Listing, *, folder: Location, rows_per_shard: int, form: Form
) -> list[ShardWork]:
    """Cut a source into the work of one shard each."""
    step = rows_per_shard
    return [
        ShardWork(
            index=index,
            first_row=start,
            reader=listing.reader.cut(start, min(start + step, listing.num_rows)),
            labels=listing.labels.codes[start : start + step],
            groups=None if listing.groups is None else listing.groups[start : start + step],
            folder=folder,
            form=form,
        )
        for index, start in enumerate(range(0, listing.num_rows, step))
    ]


def make_shard(work: ShardWork) -> ShardReport:
    """Read and verify the rows of one shard and write it; bad rows keep their slot.

    Raises:
        DataError: a whole source file cannot be read, or the shard cannot be written.
    """
    sources = work.reader.sources()
    images = _Images(len(sources), work.form)
    content_hash = np.zeros(len(sources), dtype=np.uint64)
    bad: dict[int, str] = {}
    for place, raw in enumerate(work.reader.read()):
        content_hash[place] = _content_hash(raw)
        pixels = _decode(raw, work.form)
        if isinstance(pixels, Unreadable):
            bad[place] = pixels.reason
        else:
            images.put(place, raw, pixels)
    valid = np.ones(len(sources), dtype=np.bool_)
    valid[list(bad)] = False
    columns = RowColumns(
        label=work.labels,
        content_hash=content_hash,
        group_hash=_group_hash(work.groups, content_hash),
        valid=valid,
        source=sources,
    )
    return ShardReport(
        index=work.index,
        entry=_write(work, images.all()),
        columns=columns.to_bytes(),
        quarantined=tuple(
            QuarantinedRow(row=work.first_row + place, source=sources[place], reason=reason)
            for place, reason in bad.items()
        ),
    )


@final
class _Images:
    """The images of a shard in the form that is stored."""

    def __init__(self, count: int, form: Form) -> None:
        shape = (count, form.stored_size, form.stored_size, form.channels)
        decoded = form.stored_as == "decoded"
        self._pixels = np.zeros(shape, dtype=np.uint8) if decoded else None
        self._files = [] if decoded else [b""] * count

    def put(self, place: int, raw: Raw, pixels: Pixels) -> None:
        """Take one image that can be read."""
        if self._pixels is not None:
            self._pixels[place] = pixels
        else:
            self._files[place] = _as_file(raw)

    def all(self) -> Images:
        """Return them all."""
        return self._files if self._pixels is None else self._pixels


def _as_file(raw: Raw) -> bytes:
    if isinstance(raw, bytes):
        return raw
    assert isinstance(raw, np.ndarray)
    # Without loss, and read back by the decoder that would have taken the array itself.
    grey = raw[:, :, 0] if raw.ndim == 3 and raw.shape[2] == 1 else raw
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _write(work: ShardWork, images: Images) -> FileRecord:
    try:
        return write_shard(work.folder, work.index, images)
    except OSError as error:
        fix = "free space there, or choose another `storage_path`"
        what = f"a shard cannot be written: {error.strerror or error}"
        raise DataError(Problem(str(work.folder), what, fix)) from error


def _decode(raw: Raw, form: Form) -> Pixels | Unreadable:
    match raw:
        case Unreadable():
            return raw
        case np.ndarray():
            return fit_array(raw, size=form.stored_size, resize=form.resize, channels=form.channels)
        case _:
            return decode_image(
                raw, size=form.stored_size, resize=form.resize, channels=form.channels
            )


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
