"""A dataset: the classes of the training source, and which rows of which store make a split."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Self, final

import numpy as np
import numpy.typing as npt

from rayft.plan.facts import SplitName
from rayft.storage.location import Location
from rayft.store.cache import ShardCache, cache_folder
from rayft.store.rows import RowStore
from rayft.store.splits import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRef:
    """Where the rows of a split are: a store, and the share of its places."""

    store: str
    """Place of the row store: an absolute path or an address."""
    interval: Interval = field(default_factory=Interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRef:
    """Where and how much of remote stores each machine keeps."""

    path: str
    """As the spec names it: `auto` may be another folder on each machine."""
    budget: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRef:
    """Everything a worker needs to open a dataset; a few hundred bytes of JSON."""

    classes: tuple[str, ...]
    """Label names of the training source; a label's integer is its place here."""
    splits: Mapping[SplitName, SplitRef]
    cache: CacheRef

    def to_json(self) -> str:
        """Return the reference as JSON text."""
        return json.dumps(
            {
                "classes": self.classes,
                "cache": asdict(self.cache),
                "splits": {name: asdict(split) for name, split in self.splits.items()},
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what `to_json` wrote."""
        fields = json.loads(text)
        splits: dict[SplitName, SplitRef] = {
            name: SplitRef(store=split["store"], interval=Interval(**split["interval"]))
            for name, split in fields["splits"].items()
        }
        cache = CacheRef(**fields["cache"])
        return cls(classes=tuple(fields["classes"]), splits=splits, cache=cache)


@final
class Split:
    """The rows of one split: valid ones only, in the order of their ids."""

    store: RowStore
    row_ids: npt.NDArray[np.int64]
    """[N] ascending."""

    def __init__(self, store: RowStore, *, interval: Interval, classes: tuple[str, ...]) -> None:
        self.store = store
        chosen = store.valid & interval.contains(store.group_hashes)
        self.row_ids = np.flatnonzero(chosen).astype(np.int64)
        self._num_classes = len(classes)
        place = {name: index for index, name in enumerate(classes)}
        # A class that training does not know becomes -1; preparing refuses such datasets.
        self._class_of_label = np.array(
            [place.get(name, -1) for name in store.manifest.classes], dtype=np.int64
        )

    def __len__(self) -> int:
        return len(self.row_ids)

    def labels_of(self, row_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the classes [N] of the rows `row_ids` [N] as integers of the dataset."""
        return self._class_of_label[self.store.labels[np.asarray(row_ids, dtype=np.int64)]]

    def counts(self) -> tuple[int, ...]:
        """Return the number of rows of each class of the dataset."""
        labels = self.labels_of(self.row_ids)
        return tuple(np.bincount(labels[labels >= 0], minlength=self._num_classes).tolist())


@final
class Dataset:
    """An opened dataset."""

    ref: DatasetRef
    splits: Mapping[SplitName, Split]

    def __init__(self, ref: DatasetRef, splits: Mapping[SplitName, Split]) -> None:
        self.ref = ref
        self.splits = splits

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names; a label's integer is its place here."""
        return self.ref.classes

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over stores, classes and row ids: equal where the rows of all splits are."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for name, split in sorted(self.splits.items()):
            digest.update(f"\n{name} {split.store.manifest.key} {len(split)}\n".encode())
            digest.update(split.row_ids.astype("<i8").tobytes())
        return digest.hexdigest()


def open_dataset(ref: DatasetRef) -> Dataset:
    """Open the stores of a dataset; reads labels and hashes, no pixels.

    Raises:
        DataError: a store is missing or damaged.
    """
    cache = ShardCache(folder=cache_folder(ref.cache.path), budget=ref.cache.budget)
    places = {split.store for split in ref.splits.values()}
    stores = {place: RowStore.open(Location(place), cache) for place in sorted(places)}
    splits: dict[SplitName, Split] = {
        name: Split(stores[split.store], interval=split.interval, classes=ref.classes)
        for name, split in ref.splits.items()
    }
    return Dataset(ref, splits)
