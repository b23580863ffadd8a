"""Units: rows that no split may part, since their contents are equal or their group is the same."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Rows that must not be parted, sorted by class and then by hash."""

    hashes: npt.NDArray[np.uint64]
    """[U]"""
    sizes: npt.NDArray[np.int64]
    """[U] rows of each."""
    classes: npt.NDArray[np.int64]
    """[U] the class that most rows of a unit have, the first of several."""
    of_row: npt.NDArray[np.int64]
    """[N] the unit of each row."""

    def stretches(self, among: Mask) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Give each class, and the places of its units that are `among` [U], in their order."""
        places = np.flatnonzero(among)
        if not len(places):
            return iter(())
        names, starts = np.unique(self.classes[places], return_index=True)
        return zip(names.tolist(), np.split(places, starts[1:]), strict=True)


def joined_hashes(groups: Hashes, contents: Hashes) -> Hashes:
    """Return a hash [N] that rows share which must stay together, by their groups or contents.

    Rows of one group belong together, and so do rows with equal contents, and whole groups that
    have a content in common. Of groups that are joined the smallest hash stands for all.

    Args:
        groups: [N] hash of each row's group, that of its content where it has none.
        contents: [N] hash of each row's content.
    """
    if np.array_equal(groups, contents):
        return groups
    alike = [np.unique(hashes, return_inverse=True)[1] for hashes in (contents, groups)]
    joined = groups
    while True:
        before = joined
        for number in alike:
            least = np.full(number.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
            np.minimum.at(least, number, joined)
            joined = least[number]
        if np.array_equal(joined, before):
            return joined


def units_of(hashes: npt.NDArray[np.uint64], labels: npt.NDArray[np.integer]) -> Units:
    """Return the units of rows with these hashes [N] and labels [N]."""
    unique, of_row, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    classes = _classes_of_units(of_row, labels.astype(np.int64), len(unique))
    order = np.argsort(classes, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Units(
        hashes=unique[order], sizes=sizes[order], classes=classes[order], of_row=place[of_row]
    )


def _classes_of_units(
    of_row: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], num_units: int
) -> npt.NDArray[np.int64]:
    classes = np.empty(num_units, dtype=np.int64)
    if num_units == len(labels):
        classes[of_row] = labels
        return classes
    num_labels = int(labels.max()) + 1
    pairs, counts = np.unique(of_row * num_labels + labels, return_counts=True)
    units, names = np.divmod(pairs, num_labels)
    # The last one written stays: the most frequent, and of those the first label.
    order = np.lexsort((-names, counts, units))
    classes[units[order]] = names[order]
    return classes
