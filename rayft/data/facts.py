"""The facts of a dataset, for the plan: counted in its stores, or expected from its listing."""

import numpy as np

from rayft.data.checks import check_bad_rows, check_counts
from rayft.data.layout import Layout
from rayft.plan.facts import DataFacts, SplitName
from rayft.spec.data import DataSpec
from rayft.store.dataset import DatasetRef, open_dataset

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
    counts = {name: split.counts() for name, split in dataset.splits.items()}
    check_counts(data, classes=dataset.classes, counts=counts)
    return DataFacts(
        classes=dataset.classes,
        counts=counts,
        exact=True,
        num_bad_rows=sum(len(manifest.quarantined) for manifest in manifests.values()),
        stored_bytes=sum(manifest.stored_bytes for manifest in manifests.values()),
    )


def expected_facts(layout: Layout, *, stored_size: int) -> DataFacts:
    """Tell what a dataset will hold if every image can be read and shares come out even."""
    counts: dict[SplitName, tuple[int, ...]] = {}
    for split, interval in layout.intervals.items():
        listing = layout.listings[layout.source_of(split)]
        numbers = np.bincount(listing.labels.codes, minlength=len(listing.classes)).tolist()
        rows = dict(zip(listing.classes, numbers, strict=True))
        counts[split] = tuple(round(rows.get(name, 0) * interval.share) for name in layout.classes)
    total = sum(listing.num_rows for listing in layout.listings.values())
    return DataFacts(
        classes=layout.classes,
        counts=counts,
        exact=False,
        num_bad_rows=0,
        stored_bytes=expected_bytes(total, stored_size=stored_size),
    )


def expected_bytes(num_rows: int, *, stored_size: int) -> int:
    """Return about how many bytes a row store of `num_rows` takes."""
    return num_rows * (stored_size**2 * 3 + BYTES_BESIDE_IMAGE)
