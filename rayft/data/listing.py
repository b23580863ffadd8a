"""A source read as far as it goes without touching a pixel: rows in order, labels, groups."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rayft.data.labels import CodedLabels, label_problems
from rayft.data.readers import Reader
from rayft.errors import DataError, Problem, SpecError
from rayft.storage.location import Location
from rayft.store.splits import row_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The rows of one source; a row's id is its place here."""

    where: str
    """The source, as messages name it."""
    labels: CodedLabels
    groups: npt.NDArray[np.uint64] | None
    """[N] hash of each row's group, 0 where a row has none; None where the source has none."""
    reader: Reader

    @property
    def num_rows(self) -> int:
        """Rows of the source, whether their images can be read or not."""
        return len(self.labels.codes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names in their order."""
        return self.labels.classes


def make_listing(
    *, where: str, labels: CodedLabels, groups: npt.NDArray[np.uint64] | None, reader: Reader
) -> Listing:
    """Build a listing and check what holds for sources of every kind.

    Raises:
        DataError: there is no row, rows have no label, or labels are nearly alike.
    """
    if not len(labels.codes):
        raise DataError(Problem(where, "it has no row", "point the source at files with rows"))

    def source_of(row: int) -> str:
        return reader.cut(row, row + 1).sources()[0]

    if problems := label_problems(labels, where=where, source_of=source_of):
        raise DataError(*problems)
    return Listing(where=where, labels=labels, groups=groups, reader=reader)


def hash_groups(groups: Iterable[str | None]) -> npt.NDArray[np.uint64]:
    """Return the hash of each group name, 0 for None: such a row is a group of its own."""
    names = list(groups)
    known = {name: group_hash(name) for name in set(names)}
    return np.fromiter((known[name] for name in names), dtype=np.uint64, count=len(names))


def group_hash(name: str | None) -> int:
    """Return the hash of one group name, 0 for None."""
    return 0 if name is None else row_hash(name.encode()) or 1


def group_keys(listing: Listing) -> npt.NDArray[np.uint64] | None:
    """Return a number [N] for each row that only rows of its group share; None without groups."""
    if listing.groups is None:
        return None
    rows = np.arange(listing.num_rows, dtype=np.uint64)
    return np.where(listing.groups == 0, rows, listing.groups)


def resolve_place(path: str, *, base_dir: Path) -> Location:
    """Return the place that a source's `path` means, here or in an object store.

    Raises:
        DataError: it is an address of another kind.
    """
    try:
        return Location.parse(path, base_dir=base_dir, where=path)
    except SpecError as error:
        raise DataError(*error.problems) from error


def missing_column(name: str, present: Sequence[str], *, where: str, setting: str) -> Problem:
    """Describe a column that is not there, with the nearest names that are.

    Args:
        name: the column asked for.
        present: the columns there are.
        where: the file.
        setting: the field of the spec that names the column.
    """
    near = difflib.get_close_matches(name, present, n=3, cutoff=0.4)
    hint = f"nearest: {', '.join(near)}" if near else f"columns are: {', '.join(present[:20])}"
    fix = f"set `{setting}` to the right column" + (f", such as {near[0]!r}" if near else "")
    return Problem(where, f"there is no column {name!r}; {hint}", fix)
