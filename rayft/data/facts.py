"""The facts of a dataset, for the plan: counted in its stores, or expected from its listing."""

from collections.abc import Mapping

import numpy as np

from rayft.data.checks import check_bad_rows, check_counts
from rayft.data.fold_checks import check_fold_counts, check_folds
from rayft.data.form import form_of
from rayft.data.layout import Layout
from rayft.data.listing import group_keys
from rayft.plan.facts import DataFacts, SplitName
from rayft.spec.data import DataSpec
from rayft.store.dataset import Dataset, DatasetRef, open_dataset
from rayft.store.splits import Cuts
from rayft.store.units import joined_hashes

BYTES_BESIDE_IMAGE = 64
"""What the other columns of a row take, about."""


def exact_facts(data: DataSpec, layout: Layout, ref: DatasetRef) -> DataFacts:
    """Count the rows of a prepared dataset and check that they will do.

    Raises:
        DataError: more rows than the limit were put aside, or a split lacks rows it needs.
    """
    dataset = open_dataset(ref)
    manifests = {}
    for split, listing in layout.listings.items():
        manifest = dataset.splits[split].store.manifest
        check_bad_rows(manifest, where=listing.where, limit=data.bad_rows.limit)
        manifests[manifest.key] = manifest
    store = dataset.splits["train"].store
    train = store.manifest
    kept = np.flatnonzero(store.valid)
    left_out = dataset.ref.splits["train"].left_out
    check_folds(
        layout.cuts,
        classes=train.classes,
        labels=store.labels[kept],
        units=joined_hashes(store.group_hashes[kept], store.content_hashes[kept]),
        counts=~np.isin(kept, left_out),
    )
    counts = {name: split.counts() for name, split in dataset.splits.items()}
    check_counts(data, classes=dataset.classes, counts=counts)
    return DataFacts(
        classes=dataset.classes,
        counts=counts,
        exact=True,
        num_bad_rows=sum(len(manifest.quarantined) for manifest in manifests.values()),
        num_left_out=sum(_num_left_out(dataset, split) for split in layout.listings),
        stored_bytes=sum(manifest.stored_bytes for manifest in manifests.values()),
        stored_as=train.stored_as,
        rows_per_shard=train.rows_per_shard,
        num_shards=len(train.shards),
        train_bytes=train.stored_bytes,
    )


def expected_facts(
    data: DataSpec,
    layout: Layout,
    *,
    file_bytes: Mapping[SplitName, int],
    stored_size: int,
    num_left_out: int,
) -> DataFacts:
    """Tell what a dataset will hold if every image can be read and shares come out even.

    Args:
        data: the `data:` section.
        layout: its sources and parts.
        file_bytes: bytes of the images of each source as they come.
        stored_size: height and width of the stored images in pixels.
        num_left_out: rows that the user's list names.

    Raises:
        DataError: a class has too few rows for the folds.
    """
    train_listing = layout.listings["train"]
    check_fold_counts(
        layout.cuts,
        classes=train_listing.classes,
        labels=train_listing.labels.codes,
        groups=group_keys(train_listing),
    )
    counts: dict[SplitName, tuple[int, ...]] = {}
    for split in layout.splits:
        source = layout.source_of(split)
        listing = layout.listings[source]
        numbers = np.bincount(listing.labels.codes, minlength=len(listing.classes)).tolist()
        rows = dict(zip(listing.classes, numbers, strict=True))
        cuts = layout.cuts if source == "train" else Cuts()
        part: SplitName = "train" if source == split else split
        counts[split] = tuple(cuts.expected(rows.get(name, 0))[part] for name in layout.classes)
    sizes: dict[SplitName, int] = {}
    for split, listing in layout.listings.items():
        form = form_of(data, num_rows=listing.num_rows, stored_size=stored_size)
        images = form.stored_bytes(listing.num_rows, file_bytes=file_bytes[split])
        sizes[split] = images + listing.num_rows * BYTES_BESIDE_IMAGE
    num_rows = layout.listings["train"].num_rows
    form = form_of(data, num_rows=num_rows, stored_size=stored_size)
    per_shard = form.rows_per_shard(num_rows=num_rows, file_bytes=file_bytes["train"])
    return DataFacts(
        classes=layout.classes,
        counts=counts,
        exact=False,
        num_bad_rows=0,
        num_left_out=num_left_out,
        stored_bytes=sum(sizes.values()),
        stored_as=form.stored_as,
        rows_per_shard=per_shard,
        num_shards=-(-num_rows // per_shard),
        train_bytes=sizes["train"],
    )


def _num_left_out(dataset: Dataset, source: SplitName) -> int:
    """Count the readable rows of a source that the user leaves out; unreadable ones are anyway."""
    store = dataset.splits[source].store
    return int(store.valid[list(dataset.ref.splits[source].left_out)].sum())
