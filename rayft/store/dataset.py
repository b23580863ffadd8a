"""A dataset: the classes of the training source, and which rows of which store make a split."""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from rayft.plan.facts import SplitName
from rayft.spec.data import LocalCacheSpec
from rayft.spec.size import parse_size
from rayft.storage.location import Location
from rayft.store.cache import ShardCache, cache_folder
from rayft.store.rows import RowStore
from rayft.store.splits import Cuts, Fold, Share, cut_rows
from rayft.store.units import Mask, joined_hashes


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRef:
    """Where the rows of a split are: a store, and what it takes of it."""

    store: str
    """Place of the row store: an absolute path or an address."""
    cuts: Cuts = field(default_factory=Cuts)
    """How the store is cut; whole where the split has a source of its own."""
    part: SplitName = "train"
    """The part that it takes; `train` is what no cut takes."""
    left_out: tuple[int, ...] = ()
    """Ids of rows of the store that the user wants in no split."""

    def to_fields(self) -> dict[str, Any]:
        """Return plain values; ids take about a byte each."""
        return asdict(self) | {"left_out": _packed(self.left_out)}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Read back what `to_fields` returned."""
        test, validation = fields["cuts"]["test"], fields["cuts"]["validation"]
        kind = Fold if validation and "folds" in validation else Share
        cuts = Cuts(
            test=Share(**test) if test else None,
            validation=kind(**validation) if validation else None,
        )
        left_out = _unpacked(fields["left_out"])
        return cls(store=fields["store"], cuts=cuts, part=fields["part"], left_out=left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRef:
    """Where and how much of remote stores each machine keeps."""

    path: str
    """As the spec names it: `auto` may be another folder on each machine."""
    budget: int
    """Bytes."""

    @classmethod
    def of(cls, spec: LocalCacheSpec) -> Self:
        """Return what a spec asks for."""
        return cls(path=spec.path, budget=parse_size(spec.budget))

    def open(self) -> ShardCache:
        """Return the cache of this machine."""
        return ShardCache(folder=cache_folder(self.path), budget=self.budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRef:
    """Everything a worker needs to open a dataset; small enough to send as JSON."""

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
                "splits": {name: split.to_fields() for name, split in self.splits.items()},
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what `to_json` wrote."""
        fields = json.loads(text)
        splits: dict[SplitName, SplitRef] = {
            name: SplitRef.from_fields(split) for name, split in fields["splits"].items()
        }
        cache = CacheRef(**fields["cache"])
        return cls(classes=tuple(fields["classes"]), splits=splits, cache=cache)


@final
class Split:
    """The rows of one split: valid ones only, in the order of their ids."""

    store: RowStore
    row_ids: npt.NDArray[np.int64]
    """[N] ascending."""

    def __init__(self, store: RowStore, chosen: Mask, *, classes: tuple[str, ...]) -> None:
        self.store = store
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
    cache = ref.cache.open()
    places = {split.store for split in ref.splits.values()}
    stores = {place: RowStore.open(Location(place), cache) for place in sorted(places)}
    wanted = {(split.store, split.cuts) for split in ref.splits.values()}
    parts = {(place, cuts): parts_of(stores[place], cuts) for place, cuts in wanted}
    splits: dict[SplitName, Split] = {}
    for name, split in ref.splits.items():
        chosen = parts[split.store, split.cuts][split.part].copy()
        chosen[np.asarray(split.left_out, dtype=np.int64)] = False
        splits[name] = Split(stores[split.store], chosen, classes=ref.classes)
    return Dataset(ref, splits)


def parts_of(store: RowStore, cuts: Cuts) -> dict[SplitName, Mask]:
    """Return for each part of a store a mask [num_rows] of its valid rows.

    Rows that are left out count here as the others do: so no other row changes its split.
    """
    ids = np.flatnonzero(store.valid)
    parts = cut_rows(
        cuts,
        hashes=joined_hashes(store.group_hashes[ids], store.content_hashes[ids]),
        labels=store.labels[ids],
        classes=store.manifest.classes,
    )
    masks: dict[SplitName, Mask] = {}
    for name, members in parts.items():
        masks[name] = np.zeros(store.num_rows, dtype=np.bool_)
        masks[name][ids[members]] = True
    return masks


def _packed(row_ids: Sequence[int]) -> str:
    """Return ascending ids as text: their differences, which compress well."""
    steps = np.diff(np.asarray(row_ids, dtype="<i8"), prepend=0)
    return base64.b64encode(zlib.compress(steps.tobytes())).decode() if row_ids else ""


def _unpacked(text: str) -> tuple[int, ...]:
    content = zlib.decompress(base64.b64decode(text)) if text else b""
    return tuple(np.cumsum(np.frombuffer(content, dtype="<i8")).tolist())
