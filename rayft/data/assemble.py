"""From a listed source to a committed row store: lock, shards, limit, manifest, commit.

Shards are made by a `Runner`, a port: a plain loop here, Ray Data in `build.py`. Nothing is
visible before the commit, and a build that died leaves a folder that the next one clears away.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from rayft.data.checks import check_bad_rows
from rayft.data.fingerprint import FileDigests
from rayft.data.labels import capped
from rayft.data.listing import Listing
from rayft.data.readers import printable
from rayft.data.shard import ShardReport, ShardWork, cut_into_shards, in_order, make_shard
from rayft.errors import DataError, Problem
from rayft.storage.commit import commit_directory, exclusive, write_file_atomically
from rayft.store.manifest import MANIFEST_NAME, Manifest
from rayft.store.shards import rows_per_shard
from rayft.transforms.decode import ResizeMode

Runner = Callable[[Sequence[ShardWork]], Iterator[ShardReport]]
"""Makes shards, and gives a report for each, in any order, as they are finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """A row store that is wanted."""

    key: str
    listing: Listing
    digests: FileDigests
    stored_size: int
    resize: ResizeMode
    bad_rows_limit: float

    def path(self, store_root: Path) -> Path:
        """Return where the store is, or will be."""
        return store_root / "rows" / self.key


def run_in_process(works: Sequence[ShardWork]) -> Iterator[ShardReport]:
    """Make the shards one after the other in this process."""
    return (make_shard(work) for work in works)


def build_store(
    request: StoreRequest, *, store_root: Path, run: Runner, on_rows: Callable[[int], None]
) -> bool:
    """Build a row store, unless it is there.

    When two processes ask for the same store at once, the second waits and then finds it.

    Args:
        request: the store that is wanted.
        store_root: the folder of all stores.
        run: makes the shards.
        on_rows: called with the number of rows of each shard as it is finished.

    Returns:
        True where this call built the store.

    Raises:
        DataError: too many rows cannot be read, files changed meanwhile, or the disk refused;
            nothing is then left behind.
    """
    final = request.path(store_root)
    with exclusive(store_root / "locks" / f"{request.key}.lock", wait=True):
        if final.is_dir():
            return False
        final.parent.mkdir(parents=True, exist_ok=True)
        for leftover in final.parent.glob(f".{request.key}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        tmp = final.with_name(f".{request.key}.{os.getpid()}-{uuid4().hex[:8]}")
        tmp.mkdir()
        try:
            _fill(tmp, request, run=run, on_rows=on_rows)
            return commit_directory(tmp, final)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)


def _fill(
    folder: Path, request: StoreRequest, *, run: Runner, on_rows: Callable[[int], None]
) -> None:
    works = cut_into_shards(
        request.listing, folder=folder, stored_size=request.stored_size, resize=request.resize
    )
    reports = []
    for report in run(works):
        reports.append(report)
        on_rows(report.entry.rows)
    reports = in_order(reports)
    manifest = Manifest(
        key=request.key,
        stored_size=request.stored_size,
        rows_per_shard=rows_per_shard(request.stored_size),
        classes=request.listing.classes,
        shards=tuple(report.entry for report in reports),
        quarantined=tuple(row for report in reports for row in report.quarantined),
    )
    assert manifest.num_rows == request.listing.num_rows, "a shard is missing"
    check_bad_rows(manifest, where=request.listing.where, limit=request.bad_rows_limit)
    _check_unchanged(request)
    _clear_litter(folder, manifest)
    write_file_atomically(folder / MANIFEST_NAME, manifest.to_json().encode())


def _clear_litter(folder: Path, manifest: Manifest) -> None:
    """Remove what killed writers left half done: their shards were made again by others."""
    wanted = {shard.file for shard in manifest.shards}
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()


def _check_unchanged(request: StoreRequest) -> None:
    """Refuse a store whose key belongs to files that were changed while they were read."""
    if changed := request.digests.changed():
        what = f"{len(changed)} files changed while they were read: "
        raise DataError(
            Problem(
                request.listing.where,
                what + capped([printable(file) for file in changed]),
                "let whatever writes them finish, and run the command again",
            )
        )
