"""From the `data:` section to a dataset that workers can open."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from rayft.data.assemble import Runner, StoreRequest, build_store, run_in_process
from rayft.data.checks import check_disk, refuse_bad_rows
from rayft.data.facts import exact_facts, expected_facts
from rayft.data.fingerprint import (
    FileDigests,
    digest_files,
    remembered_digests,
    source_bytes,
    store_key,
)
from rayft.data.form import form_of
from rayft.data.layout import Layout, lay_out, reference
from rayft.data.leave_out import LeaveOutList, read_list
from rayft.data.listing import Listing
from rayft.data.readers import FileRows, printable
from rayft.errors import Problem, SpecError
from rayft.plan.facts import DataFacts, SplitName
from rayft.spec.data import DataSpec
from rayft.storage.location import Location
from rayft.store.dataset import CacheRef, DatasetRef
from rayft.store.rows import RowStore


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDataset:
    """A dataset that is ready to be opened."""

    ref: DatasetRef
    facts: DataFacts
    built: bool
    """False where all stores were there already."""


def prepare_dataset(  # noqa: PLR0913  each is a decision of the caller's
    data: DataSpec,
    *,
    base_dir: Path,
    store_root: Location,
    image_size: int,
    stored_size: int,
    use_ray: bool,
    on_progress: Callable[[int, int], None],
) -> PreparedDataset:
    """Build the row stores of a dataset, where they are missing, and check its splits.

    Args:
        data: the `data:` section.
        base_dir: the folder that relative paths start from.
        store_root: the folder of all row stores; on a cluster, one that all nodes see.
        image_size: height and width in pixels that the backbone sees.
        stored_size: height and width of the stored images, at least `image_size`.
        use_ray: build on the Ray cluster this process is connected to, else in this process;
            the stores are the same, byte for byte.
        on_progress: called with rows done and rows to do; never when nothing is to be done.

    Raises:
        DataError: the sources, their labels or their images break the contract, or the disk is
            too small; nothing is then left behind.
        SpecError: `stored_size` is smaller than `image_size`.
    """
    if stored_size < image_size:
        what = f"stored images of {stored_size} pixels are smaller than image_size {image_size}"
        raise SpecError(Problem("data.stored_size", what, "make it at least as large"))
    built = build_stores(
        data,
        base_dir=base_dir,
        store_root=store_root,
        stored_size=stored_size,
        use_ray=use_ray,
        on_progress=on_progress,
    )
    facts = exact_facts(data, built.layout, built.ref)
    return PreparedDataset(ref=built.ref, facts=facts, built=built.built)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltStores:
    """The row stores of a dataset, before it is checked whether a run may start on it."""

    layout: Layout
    ref: DatasetRef
    built: bool
    """False where all stores were there already."""


def build_stores(
    data: DataSpec,
    *,
    base_dir: Path,
    store_root: Location,
    stored_size: int,
    use_ray: bool,
    on_progress: Callable[[int, int], None],
) -> BuiltStores:
    """Build the row stores of a dataset, where they are missing; arguments as `prepare_dataset`.

    Raises:
        DataError: the sources, their labels or their images break the contract, the disk is too
            small, or a row to be left out is not there.
    """
    named = read_list(data.leave_out, base_dir=base_dir)
    layout = lay_out(data, base_dir=base_dir, memory=store_root / "indexes")
    check_disk(store_root, needed_bytes=0)
    requests = _requests(data, layout, store_root=store_root, stored_size=stored_size)
    missing = {r.key: r for r in requests.values() if not r.is_built(store_root)}
    check_disk(store_root, needed_bytes=sum(r.expected_bytes for r in missing.values()))
    progress = _Progress(sum(r.listing.num_rows for r in missing.values()), on_progress)
    run = _runner(use_ray=use_ray)
    made = [
        build_store(request, store_root=store_root, run=run, on_rows=progress.add)
        for request in missing.values()
    ]
    ref = _reference(data, layout, _places(requests, store_root), named)
    return BuiltStores(layout=layout, ref=ref, built=any(made))


def estimate_dataset(
    data: DataSpec, *, base_dir: Path, store_root: Location, stored_size: int
) -> DataFacts:
    """Tell what a dataset will be, without reading an image; remembers indexes of tar files only.

    Exact where the row stores exist and the sources have not changed since; else the counts
    of shares are expectations.

    Raises:
        DataError: the sources or their labels break the contract, or a row to be left out is not
            there, as far as stores are there to look into.
    """
    named = read_list(data.leave_out, base_dir=base_dir)
    layout = lay_out(data, base_dir=base_dir, memory=store_root / "indexes")
    requests: dict[SplitName, StoreRequest] = {}
    file_bytes: dict[SplitName, int] = {}
    for split, listing in layout.listings.items():
        digests = remembered_digests(listing.reader, store_root=store_root)
        file_bytes[split] = source_bytes(listing.reader, digests)
        if not digests.pending:
            requests[split] = _request(data, listing, digests, stored_size=stored_size)
    complete = len(requests) == len(layout.listings)
    if complete and all(r.is_built(store_root) for r in requests.values()):
        ref = _reference(data, layout, _places(requests, store_root), named)
        return exact_facts(data, layout, ref)
    return expected_facts(
        data,
        layout,
        file_bytes=file_bytes,
        stored_size=stored_size,
        num_left_out=len(named.rows) if named else 0,
    )


def _reference(
    data: DataSpec,
    layout: Layout,
    places: Mapping[SplitName, Location],
    named: LeaveOutList | None,
) -> DatasetRef:
    left_out: dict[SplitName, tuple[int, ...]] = {}
    if named is not None:
        cache = CacheRef.of(data.local_cache).open()
        stores = {source: RowStore.open(place, cache) for source, place in places.items()}
        left_out = named.find(stores)
    return reference(layout, places, left_out=left_out, cache=data.local_cache)


def _requests(
    data: DataSpec, layout: Layout, *, store_root: Location, stored_size: int
) -> dict[SplitName, StoreRequest]:
    requests = {}
    for split, listing in layout.listings.items():
        digests = digest_files(listing.reader, store_root=store_root)
        _refuse_missing_files(listing, digests, limit=data.bad_rows.limit)
        requests[split] = _request(data, listing, digests, stored_size=stored_size)
    return requests


def _refuse_missing_files(listing: Listing, digests: FileDigests, *, limit: float) -> None:
    """Stop at once, not after decoding everything else, when too many files are missing."""
    unreadable = digests.unreadable
    if unreadable and isinstance(listing.reader, FileRows):
        rows = [path for path in listing.reader.paths if path in unreadable]
        refuse_bad_rows(
            {printable(path): unreadable[path] for path in rows},
            num_bad=len(rows),
            num_rows=listing.num_rows,
            limit=limit,
            where=listing.where,
        )


def _request(
    data: DataSpec, listing: Listing, digests: FileDigests, *, stored_size: int
) -> StoreRequest:
    num_rows = listing.num_rows
    form = form_of(data, num_rows=num_rows, stored_size=stored_size)
    file_bytes = source_bytes(listing.reader, digests)
    rows_per_shard = form.rows_per_shard(num_rows=num_rows, file_bytes=file_bytes)
    return StoreRequest(
        key=store_key(listing, digests, form=form, rows_per_shard=rows_per_shard),
        listing=listing,
        digests=digests,
        form=form,
        rows_per_shard=rows_per_shard,
        file_bytes=file_bytes,
        bad_rows_limit=data.bad_rows.limit,
    )


def _runner(*, use_ray: bool) -> Runner:
    if not use_ray:
        return run_in_process
    from rayft.data.build import run_on_ray

    return run_on_ray


def _places(
    requests: Mapping[SplitName, StoreRequest], store_root: Location
) -> dict[SplitName, Location]:
    return {split: request.place(store_root) for split, request in requests.items()}


@final
class _Progress:
    """Adds up rows over the stores of one call."""

    def __init__(self, total: int, report: Callable[[int, int], None]) -> None:
        self._done = 0
        self._total = total
        self._report = report

    def add(self, rows: int) -> None:
        self._done += rows
        self._report(self._done, self._total)
