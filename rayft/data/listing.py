"""A source read as far as it goes without touching a pixel: rows in order, labels, groups."""

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rayft.data.labels import CodedLabels, label_problems
from rayft.data.readers import Reader
from rayft.errors import DataError, Problem
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
    unclear = bool((labels.codes < 0).any())
    sources = reader.sources() if unclear else []
    if problems := label_problems(labels, where=where, sources=sources):
        raise DataError(*problems)
    return Listing(where=where, labels=labels, groups=groups, reader=reader)


def hash_groups(groups: Iterable[str | None]) -> npt.NDArray[np.uint64]:
    """Return the hash of each group name, 0 for None: such a row is a group of its own."""
    names = list(groups)
    known: dict[str | None, int] = {name: row_hash(str(name).encode()) or 1 for name in set(names)}
    known[None] = 0
    return np.fromiter((known[name] for name in names), dtype=np.uint64, count=len(names))


def resolve_path(path: str, *, base_dir: Path, where: str) -> Path:
    """Return the absolute path that a source's `path` means.

    Raises:
        DataError: it is a remote address.
    """
    if "://" in path:
        raise DataError(
            Problem(
                where, f"remote path {path!r} cannot be read", "copy the data to a mounted folder"
            )
        )
    # Without `..`, so that what lies inside can be told by comparing names.
    return Path(os.path.normpath((base_dir / Path(path).expanduser()).absolute()))


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
