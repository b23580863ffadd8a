"""From a listed source to a committed row store: lock, shards, limit, index, manifest, commit.

Shards are made by a `Runner`, a port: a plain loop here, Ray Data in `build.py`. Nothing is
visible before the commit. On a local disk a store is built beside its place and renamed; in an
object store its files lie in their place, and the manifest, put last and only where there is
none, makes them a store. A build that died leaves files that the next one replaces.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from rayft.data.checks import check_bad_rows
from rayft.data.fingerprint import FileDigests
from rayft.data.form import Form
from rayft.data.labels import capped
from rayft.data.listing import Listing
from rayft.data.readers import printable
from rayft.data.shard import ShardReport, ShardWork, cut_into_shards, in_order, make_shard
from rayft.errors import DataError, Problem
from rayft.storage.commit import commit_directory
from rayft.storage.location import Location
from rayft.storage.lock import locked
from rayft.store.index import write_index
from rayft.store.manifest import MANIFEST_NAME, Manifest

Runner = Callable[[Sequence[ShardWork]], Iterator[ShardReport]]
"""Makes shards, and gives a report for each, in any order, as they are finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """A row store that is wanted."""

    key: str
    listing: Listing
    digests: FileDigests
    form: Form
    rows_per_shard: int
    file_bytes: int
    """Bytes of the source's images as they come."""
    bad_rows_limit: float

    def place(self, store_root: Location) -> Location:
        """Return where the store is, or will be."""
        return store_root / "rows" / self.key

    def is_built(self, store_root: Location) -> bool:
        """Tell whether the store is there."""
        return (self.place(store_root) / MANIFEST_NAME).exists()

    @property
    def expected_bytes(self) -> int:
        """About how many bytes the images take."""
        return self.form.stored_bytes(self.listing.num_rows, file_bytes=self.file_bytes)


def run_in_process(works: Sequence[ShardWork]) -> Iterator[ShardReport]:
    """Make the shards one after the other in this process."""
    return (make_shard(work) for work in works)


def build_store(
    request: StoreRequest, *, store_root: Location, run: Runner, on_rows: Callable[[int], None]
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
            no store is then there.
    """
    lock = store_root / "locks" / f"{request.key}.lock"
    with locked(lock, holder=f"process {os.getpid()}", wait=True):
        if request.is_built(store_root):
            return False
        with _building(request.place(store_root)) as folder:
            _fill(folder, request, run=run, on_rows=on_rows)
    return True


@contextmanager
def _building(final: Location) -> Iterator[Location]:
    """Give the folder to build in; what is in it becomes the store where nothing is raised."""
    if not final.is_local:
        yield final
        return
    parent = final.parent.path
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f".{final.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    tmp = parent / f".{final.name}.{os.getpid()}-{uuid4().hex[:8]}"
    tmp.mkdir()
    try:
        yield Location(str(tmp))
        commit_directory(tmp, final.path)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def _fill(
    folder: Location, request: StoreRequest, *, run: Runner, on_rows: Callable[[int], None]
) -> None:
    works = cut_into_shards(
        request.listing, folder=folder, rows_per_shard=request.rows_per_shard, form=request.form
    )
    reports = []
    for report in run(works):
        reports.append(report)
        on_rows(report.entry.rows)
    reports = in_order(reports)
    manifest = Manifest(
        key=request.key,
        stored_as=request.form.stored_as,
        stored_size=request.form.stored_size,
        resize=request.form.resize,
        channels=request.form.channels,
        rows_per_shard=request.rows_per_shard,
        classes=request.listing.classes,
        index=write_index(folder, [report.columns for report in reports]),
        shards=tuple(report.entry for report in reports),
        quarantined=tuple(row for report in reports for row in report.quarantined),
    )
    assert manifest.num_rows == request.listing.num_rows, "a shard is missing"
    check_bad_rows(manifest, where=request.listing.where, limit=request.bad_rows_limit)
    _check_unchanged(request)
    _clear_litter(folder, manifest)
    # Where another builder was faster, its files are these, byte for byte.
    (folder / MANIFEST_NAME).create(manifest.to_json().encode())


def _clear_litter(folder: Location, manifest: Manifest) -> None:
    """Remove what killed writers left half done: their shards were made again by others."""
    wanted = {record.file for record in (manifest.index, *manifest.shards)}
    for name in folder.children():
        if name not in wanted:
            (folder / name).delete()


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
