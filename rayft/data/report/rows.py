"""The rows that a report looks at: those of all sources, numbered through."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final, get_args

import numpy as np
import numpy.typing as npt

from rayft.feed.gather import gather_images
from rayft.plan.facts import SplitName
from rayft.store.dataset import Dataset
from rayft.store.rows import RowStore

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
"""A split's number is its place here."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowName:
    """A row as people find it."""

    source: SplitName
    """The setting below `data:` that names the row's source."""
    split: SplitName
    row: int
    """Its id: its place in the source."""
    file: str
    """Its file, or file and place in it."""
    label: str
    """Its class."""
    hash: str
    """Hash of its content, 16 digits."""


def row_name(store: RowStore, row: int, *, source: SplitName, split: SplitName) -> RowName:
    """Say how people find a row of a store."""
    return RowName(
        source=source,
        split=split,
        row=row,
        file=store.source_of(row),
        label=store.manifest.classes[int(store.labels[row])],
        hash=f"{int(store.content_hashes[row]):016x}",
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRows:
    """The readable rows of a dataset that are not left out, source by source."""

    sources: tuple[SplitName, ...]
    stores: tuple[RowStore, ...]
    """[sources]"""
    source: npt.NDArray[np.int8]
    """[N] place in `sources`."""
    row: Ids
    """[N] id in its store."""
    split: npt.NDArray[np.int8]
    """[N] place in `SPLITS`."""
    label: Ids
    """[N] class."""
    content: npt.NDArray[np.uint64]
    """[N] hash of the content."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def of(cls, dataset: Dataset, sources: Sequence[SplitName]) -> "ReportRows":
        """Return the rows of a dataset.

        Args:
            dataset: the dataset.
            sources: the splits that have a source of their own.
        """
        parts = [_rows_of(dataset, source, place) for place, source in enumerate(sources)]
        joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        return cls(
            sources=tuple(sources),
            stores=tuple(dataset.splits[source].store for source in sources),
            source=joined[0].astype(np.int8),
            row=joined[1],
            split=joined[2].astype(np.int8),
            label=joined[3],
            content=joined[4].view(np.uint64),
            classes=dataset.classes,
        )

    def rows_of(self, source: int) -> Ids:
        """Return the places of the rows of a source."""
        return np.flatnonzero(self.source == source)

    def name(self, place: int) -> RowName:
        """Say which row is at a place."""
        source = int(self.source[place])
        return row_name(
            self.stores[source],
            int(self.row[place]),
            source=self.sources[source],
            split=SPLITS[int(self.split[place])],
        )

    def image(self, place: int) -> npt.NDArray[np.uint8]:
        """Return the stored image [S, S, C] of the row at a place."""
        store = self.stores[int(self.source[place])]
        image: npt.NDArray[np.uint8] = gather_images(store, self.row[[place]], threads=1)[0]
        return image


def _rows_of(dataset: Dataset, source: SplitName, place: int) -> tuple[Ids, Ids, Ids, Ids, Ids]:
    """Return source, id, split, class and content of the rows of one source, by their ids."""
    cut = {name for name, split in dataset.ref.splits.items() if split.part == name}
    names = sorted(cut) if source == "train" else [source]
    members = [(SPLITS.index(name), dataset.splits[name]) for name in names]
    ids = np.concatenate([split.row_ids for _, split in members])
    splits = np.concatenate([np.full(len(split), number) for number, split in members])
    order = np.argsort(ids, kind="stable")
    ids, splits = ids[order], splits[order]
    whole = dataset.splits[source]
    contents = whole.store.content_hashes[ids].view(np.int64)
    return np.full(len(ids), place), ids, splits, whole.labels_of(ids), contents
