"""What a frozen prefix made of rows earlier, by row and view, for the splits of a phase."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from rayft.plan.facts import SplitName
from rayft.plan.run_plan import PhasePlan
from rayft.storage.location import Location
from rayft.store.activations import ActivationStore
from rayft.store.dataset import Dataset

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRef:
    """Where what is kept for the phases of a run lies; small enough to send as JSON."""

    phases: Mapping[int, Mapping[SplitName, tuple[str, ...]]]
    """By phase and split the place of a store for each view; a phase that is not named keeps
    nothing."""
    rows_made: int
    """Rows that were run through frozen layers for it; the others were kept already."""

    def to_json(self) -> str:
        """Return the reference as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what `to_json` wrote."""
        fields = json.loads(text)
        return cls(
            rows_made=fields["rows_made"],
            phases={
                int(phase): {split: tuple(places) for split, places in splits.items()}
                for phase, splits in fields["phases"].items()
            },
        )


@final
class KeptRows:
    """The kept rows of one split."""

    def __init__(self, row_ids: Ids, stores: Sequence[ActivationStore]) -> None:
        self._row_ids = row_ids
        self._stores = stores

    def gather(self, row_ids: Ids, views: Ids) -> NDArray[np.generic]:
        """Return what the prefix made of a view of each row.

        Args:
            row_ids: [N] rows of the split.
            views: [N] numbers of kept views.

        Returns:
            [N, ...], a fresh array.

        Raises:
            DataError: a store is damaged, or cannot be fetched.
        """
        places = np.searchsorted(self._row_ids, row_ids)
        if len(self._stores) == 1:
            # Images that nothing changes at random have one view, whatever the epoch.
            return self._stores[0].gather(places)
        used = np.unique(views)
        if len(used) == 1:
            return self._stores[int(used[0])].gather(places)
        first = self._stores[0].manifest
        found = np.empty((len(row_ids), *first.shape), self._stores[0].gather(places[:0]).dtype)
        for view in used.tolist():
            chosen = views == view
            found[chosen] = self._stores[view].gather(places[chosen])
        return found


@final
class Kept:
    """What is kept for a run, opened as it is needed."""

    def __init__(self, ref: KeptRef, dataset: Dataset) -> None:
        self._ref = ref
        self._dataset = dataset
        self._opened: dict[tuple[int, SplitName], KeptRows] = {}

    def rows(self, phase: PhasePlan, split: SplitName) -> KeptRows | None:
        """Return the kept rows of a split in a phase; None where there are none."""
        places = self._ref.phases.get(phase.index, {}).get(split)
        if places is None:
            return None
        key = (phase.index, split)
        if key not in self._opened:
            cache = self._dataset.ref.cache.open()
            stores = [ActivationStore.open(Location(place), cache) for place in places]
            ids = kept_ids(self._dataset, phase, split)
            self._opened[key] = KeptRows(ids, stores)
        return self._opened[key]


def is_random(phase: PhasePlan, split: SplitName) -> bool:
    """Return whether random views of a split's rows are kept in a phase."""
    return split == "train" and phase.prefix is not None and phase.prefix.views is not None


def kept_ids(dataset: Dataset, phase: PhasePlan, split: SplitName) -> Ids:
    """Return the ids [N], ascending, of the rows that are kept together with those of a split.

    Images that nothing changes at random are the same in every split, so the rows of all splits
    of a source are kept together, and runs that split them in another way find them. Random views
    are needed of training rows only.
    """
    assert phase.prefix is not None
    chosen = dataset.splits[split]
    if is_random(phase, split):
        return chosen.row_ids
    same = [
        dataset.splits[other].row_ids
        for other in phase.prefix.splits
        if not is_random(phase, other)
        and dataset.splits[other].store.manifest.key == chosen.store.manifest.key
    ]
    return np.unique(np.concatenate(same))


def ids_digest(dataset: Dataset, split: SplitName, ids: Ids) -> str:
    """Return the SHA-256 of the rows with these ids of a split's source."""
    digest = hashlib.sha256(dataset.splits[split].store.manifest.key.encode())
    digest.update(ids.astype("<i8").tobytes())
    return digest.hexdigest()
