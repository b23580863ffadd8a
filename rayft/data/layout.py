"""Which rows of which source make each split, decided before anything is read or built."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rayft.data.checks import check_classes
from rayft.data.listing import Listing
from rayft.data.sources import list_source
from rayft.errors import DataError, Problem
from rayft.plan.facts import SplitName
from rayft.spec.data import DataSpec, LocalCacheSpec, SourceSpec, SplitSpec
from rayft.spec.size import parse_size
from rayft.storage.location import Location
from rayft.store.dataset import CacheRef, DatasetRef, SplitRef
from rayft.store.splits import Interval, share_intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The sources of a dataset, and the part of each that a split takes."""

    listings: Mapping[SplitName, Listing]
    """The sources, by the split that names them; `train` is always there."""
    intervals: Mapping[SplitName, Interval]
    """Every split's part of its own source, or else of the training source."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the dataset: those of the training source."""
        return self.listings["train"].classes

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
    shares: dict[SplitName, float] = {"validation": 0.0, "test": 0.0}
    problems: list[Problem] = []
    for split, spec in _named(data).items():
        if isinstance(spec, SplitSpec):
            shares[split] = spec.fraction
            continue
        try:
            listings[split] = list_source(spec, base_dir=base_dir, memory=memory)
        except DataError as error:
            problems.extend(_in_spec(problem, split) for problem in error.problems)
    if problems:
        raise DataError(*dict.fromkeys(problems))
    check_classes(
        {split: listing.classes for split, listing in listings.items()},
        {split: f"data.{split}" for split in listings},
    )
    intervals = share_intervals(test=shares["test"], validation=shares["validation"])
    intervals |= {split: Interval() for split in listings if split != "train"}
    return Layout(listings=listings, intervals=intervals)


def reference(
    layout: Layout, stores: Mapping[SplitName, Location], *, cache: LocalCacheSpec
) -> DatasetRef:
    """Return the reference by which workers open the dataset.

    Args:
        layout: the dataset's sources and parts.
        stores: the row store of each source.
        cache: what each machine keeps of stores that are remote.
    """
    splits = {
        split: SplitRef(store=str(stores[layout.source_of(split)]), interval=interval)
        for split, interval in layout.intervals.items()
    }
    kept = CacheRef(path=cache.path, budget=parse_size(cache.budget))
    return DatasetRef(classes=layout.classes, splits=splits, cache=kept)


def _in_spec(problem: Problem, split: SplitName) -> Problem:
    """Say which setting a source's problem belongs to, so that its line can be named."""
    return Problem(f"data.{split}", f"{problem.where}: {problem.what}", problem.fix)


def _named(data: DataSpec) -> dict[SplitName, SourceSpec | SplitSpec]:
    named: dict[SplitName, SourceSpec | SplitSpec] = {"train": data.train}
    if data.validation is not None:
        named["validation"] = data.validation
    if data.test is not None:
        named["test"] = data.test
    return named
