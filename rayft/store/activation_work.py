"""One shard of a store of activations that is being built: what to make, and that it is made.

A finished shard leaves a record beside it, so that a later build can keep it.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy.typing as npt

from rayft.storage.location import Location
from rayft.store.activation_manifest import ActivationType, numpy_type
from rayft.store.activation_request import ActivationRequest
from rayft.store.activation_use import cache_errors
from rayft.store.activations import write_activation_shard
from rayft.store.manifest import FileRecord, file_record
from rayft.store.shards import shard_name

_CHECKS_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationWork:
    """One shard that is to be made: the rows at the places `start` to `stop` - 1."""

    index: int
    start: int
    stop: int
    folder: Location
    """The folder to write into."""
    shape: tuple[int, ...]
    dtype: ActivationType

    @property
    def num_rows(self) -> int:
        """Rows of the shard."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationReport:
    """What a finished shard reports: all that goes back to the driver."""

    index: int
    record: FileRecord


def finish_shard(work: ActivationWork, rows: npt.NDArray[Any]) -> ActivationReport:
    """Write a shard, and its record, which lets a later build keep it.

    Args:
        work: the shard.
        rows: [N, *shape] its rows: float32, float16, or uint16 with the bits of bf16.

    Raises:
        CacheError: the disk or the object store refused.
    """
    assert rows.shape == (work.num_rows, *work.shape), rows.shape
    assert rows.dtype == numpy_type(work.dtype), rows.dtype
    with cache_errors(work.folder):
        record = write_activation_shard(work.folder, work.index, rows)
        content = json.dumps({"start": work.start, **asdict(record)})
        _record_place(work).write_bytes(content.encode())
    return ActivationReport(index=work.index, record=record)


def cut_into_works(request: ActivationRequest, folder: Location) -> list[ActivationWork]:
    """Cut a store into the work of one shard each."""
    step = request.rows_per_shard
    return [
        ActivationWork(
            index=index,
            start=start,
            stop=min(start + step, request.num_rows),
            folder=folder,
            shape=request.shape,
            dtype=request.dtype,
        )
        for index, start in enumerate(range(0, request.num_rows, step))
    ]


def finished_shards(works: Sequence[ActivationWork]) -> dict[int, FileRecord]:
    """Return the shards that an earlier build finished and that are still as they were."""
    left = {name for folder in {work.folder for work in works} for name in folder.children()}
    recorded = [work for work in works if _record_place(work).name in left]
    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as threads:
        found = zip(recorded, threads.map(_intact, recorded), strict=True)
        return {work.index: record for work, record in found if record is not None}


def _intact(work: ActivationWork) -> FileRecord | None:
    try:
        fields = json.loads(_record_place(work).read_bytes())
        start, record = fields.pop("start"), file_record(fields)
        state = (work.folder / shard_name(work.index)).stat()
        if (start, record.rows) != (work.start, work.num_rows) or state is None:
            return None
        if state.size != record.bytes:
            return None
        # An object store keeps what was put, whole; a disk may lose bytes when it loses power.
        if work.folder.is_local and (work.folder / record.file).sha256() != record.sha256:
            return None
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record


def _record_place(work: ActivationWork) -> Location:
    return work.folder / f"{shard_name(work.index)}.json"
