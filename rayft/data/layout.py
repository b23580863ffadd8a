"""Which rows of which source make each split, decided before anything is read or built."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rayft.data.checks import check_classes
from rayft.data.listing import Listing
from rayft.data.sources import list_source
from rayft.errors import DataError, Problem
from rayft.plan.facts import SplitName
from rayft.spec.data import DataSpec, FoldsSpec, LocalCacheSpec, SplitSpec
from rayft.spec.sources import SourceSpec
from rayft.storage.location import Location
from rayft.store.dataset import CacheRef, DatasetRef, SplitRef
from rayft.store.splits import Cuts, Fold, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The sources of a dataset, and what splits take of the training source."""

    listings: Mapping[SplitName, Listing]
    """The sources, by the split that names them; `train` is always there."""
    cuts: Cuts
    """What is taken out of the training source."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the dataset: those of the training source."""
        return self.listings["train"].classes

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """The splits that exist."""
        cut = {"validation": self.cuts.validation, "test": self.cuts.test}
        return tuple(s for s in get_args(SplitName) if s in self.listings or cut[s] is not None)

    def source_of(self, split: SplitName) -> SplitName:
        """Return the split whose source holds the rows of `split`."""
        return split if split in self.listings else "train"


def lay_out(data: DataSpec, *, base_dir: Path, memory: Location | None = None) -> Layout:
    """List all sources of a dataset and check their classes against each other.

    Args:
        data: the `data:` section.
        base_dir: the folder that relative paths start from.
        memory: where indexes of tar files are remembered; None forgets them.

    Raises:
        DataError: with the problems of all sources at once.
    """
    listings: dict[SplitName, Listing] = {}
    problems: list[Problem] = []
    for split, spec in _named(data).items():
        if isinstance(spec, SplitSpec | FoldsSpec):
            continue
        try:
            listings[split] = list_source(
                spec, base_dir=base_dir, memory=memory, channels=data.channels
            )
        except DataError as error:
            problems.extend(_in_spec(problem, split) for problem in error.problems)
    if problems:
        raise DataError(*dict.fromkeys(problems))
    check_classes(
        {split: listing.classes for split, listing in listings.items()},
        {split: f"data.{split}" for split in listings},
    )
    return Layout(listings=listings, cuts=cuts_of(data))


def cuts_of(data: DataSpec) -> Cuts:
    """Return what splits take of the training source."""
    test = data.test if isinstance(data.test, SplitSpec) else None
    validation: Share | Fold | None = None
    match data.validation:
        case SplitSpec() as share:
            validation = Share(fraction=share.fraction, stratify=share.stratify)
        case FoldsSpec() as part:
            validation = Fold(folds=part.folds, fold=part.fold)
        case _:
            pass
    taken = Share(fraction=test.fraction, stratify=test.stratify) if test else None
    return Cuts(test=taken, validation=validation)


def reference(
    layout: Layout,
    stores: Mapping[SplitName, Location],
    *,
    left_out: Mapping[SplitName, tuple[int, ...]],
    cache: LocalCacheSpec,
) -> DatasetRef:
    """Return the reference by which workers open the dataset.

    Args:
        layout: the dataset's sources and parts.
        stores: the row store of each source.
        left_out: ids of the rows of each source that no split gets, ascending.
        cache: what each machine keeps of stores that are remote.
    """
    splits: dict[SplitName, SplitRef] = {}
    for split in layout.splits:
        source = layout.source_of(split)
        splits[split] = SplitRef(
            store=str(stores[source]),
            cuts=layout.cuts if source == "train" else Cuts(),
            part="train" if source == split else split,
            left_out=left_out.get(source, ()),
        )
    return DatasetRef(classes=layout.classes, splits=splits, cache=CacheRef.of(cache))


def _in_spec(problem: Problem, split: SplitName) -> Problem:
    """Say which setting a source's problem belongs to, so that its line can be named."""
    return Problem(f"data.{split}", f"{problem.where}: {problem.what}", problem.fix)


def _named(data: DataSpec) -> dict[SplitName, SourceSpec | SplitSpec | FoldsSpec]:
    named: dict[SplitName, SourceSpec | SplitSpec | FoldsSpec] = {"train": data.train}
    if data.validation is not None:
        named["validation"] = data.validation
    if data.test is not None:
        named["test"] = data.test
    return named
