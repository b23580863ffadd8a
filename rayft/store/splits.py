"""Which part of a source a row belongs to, decided by its class and the hash of its content.

Rows that share a hash (equal contents, or members of a group) are one unit and never parted.
Within each class, units lie in the order of their hashes, which no seed and no order of files
changes, and a part takes a stretch of them. When rows come or go, only units at the ends of
their class's stretches may change their part. ADR 0019 says why.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from rayft.plan.facts import SplitName

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A fraction of the rows."""

    fraction: float
    stratify: bool = True
    """Of each class, rounded and at least one unit; else of all hashes, wherever they fall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One of `folds` equal parts."""

    folds: int
    fold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """What is taken out of a source; the rest trains.

    Test is taken first, so that its rows stay when validation is asked for later.
    """

    test: Share | None = None
    validation: Share | Fold | None = None

    def expected(self, num_rows: int) -> dict[SplitName, int]:
        """Return the rows of each split for one class of `num_rows` rows without groups."""
        test = _expected(self.test, left=num_rows, total=num_rows)
        validation = _expected(self.validation, left=num_rows - test, total=num_rows)
        counts: dict[SplitName, int] = {"train": num_rows - test - validation}
        if self.validation is not None:
            counts["validation"] = validation
        if self.test is not None:
            counts["test"] = test
        return counts


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


def cut_rows(
    cuts: Cuts,
    *,
    hashes: npt.NDArray[np.uint64],
    labels: npt.NDArray[np.integer],
    classes: Sequence[str],
) -> dict[SplitName, Mask]:
    """Tell for every row which split it belongs to.

    Args:
        cuts: what is taken out.
        hashes: [N] what must stay together shares one.
        labels: [N] places in `classes`.
        classes: names of the classes.

    Returns:
        For each split a mask [N]; every row is in exactly one.
    """
    splits: dict[SplitName, Mask] = {"train": np.ones(len(hashes), dtype=np.bool_)}
    if cuts == Cuts():
        return splits
    units = units_of(hashes, labels)
    left = np.ones(len(units.hashes), dtype=np.bool_)
    if cuts.validation is not None:
        splits["validation"] = splits["train"]
    if cuts.test is not None:
        taken = _taken(cuts.test, units, left, classes=classes, start=0.0)
        left &= ~taken
        splits["test"] = taken[units.of_row]
    if cuts.validation is not None:
        start = cuts.test.fraction if cuts.test else 0.0
        taken = _taken(cuts.validation, units, left, classes=classes, start=start)
        left &= ~taken
        splits["validation"] = taken[units.of_row]
    splits["train"] = left[units.of_row]
    return splits


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


def hash_places(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Return the place on [0, 1) of each hash [N]: its upper 53 bits, which a float64 holds."""
    return (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53


def row_hash(content: bytes | memoryview) -> int:
    """Return the 64-bit hash that rows and groups are known by."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


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


def _taken(
    cut: Share | Fold, units: Units, left: Mask, *, classes: Sequence[str], start: float
) -> Mask:
    """Return which units [U] a cut takes of those that are `left`."""
    if isinstance(cut, Share) and not cut.stratify:
        along = hash_places(units.hashes)
        return left & (along >= start) & (along < start + cut.fraction)
    totals = np.bincount(units.classes, weights=units.sizes).astype(np.int64)
    taken = np.zeros(len(left), dtype=np.bool_)
    for label, places in units.stretches(left):
        sizes = units.sizes[places]
        if isinstance(cut, Fold):
            first, stop = _fold_stretch(sizes, cut, turn=row_hash(classes[label].encode()))
        else:
            first, stop = 0, _share_stop(sizes, round_half_up(cut.fraction * totals[label]))
        taken[places[first:stop]] = True
    return taken


def _share_stop(sizes: npt.NDArray[np.int64], target: int) -> int:
    """Return how many units come closest to `target` rows: one at least, and not the last."""
    stop = int(np.searchsorted(_double_middles(sizes), 2 * target))
    return min(max(stop, 1), len(sizes) - 1)


def _fold_stretch(sizes: npt.NDArray[np.int64], cut: Fold, *, turn: int) -> tuple[int, int]:
    """Return the first unit of a fold and the one behind its last.

    Folds differ by one row at most where units are rows. Classes begin with different folds
    (`turn`), or the first folds would get the larger part of every class.
    """
    number = (cut.fold + turn) % cut.folds
    count, folds = len(sizes), np.arange(1, cut.folds + 1)
    ends = np.searchsorted(_double_middles(sizes) * cut.folds, 2 * folds * sizes.sum())
    if count >= cut.folds:
        # Large groups must not leave a fold without any.
        ends = np.maximum.accumulate(np.maximum(ends, folds) - folds) + folds
        ends = np.minimum(ends, count - cut.folds + folds)
    return int(ends[number - 1]) if number else 0, int(ends[number])


def _double_middles(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return twice the middle of each unit where units [U] lie end to end: whole numbers."""
    return 2 * np.cumsum(sizes) - sizes


def round_half_up(value: float) -> int:
    """Round to the nearest whole number, halves upwards."""
    return int(np.floor(value + 0.5))


def _expected(cut: Share | Fold | None, *, left: int, total: int) -> int:
    match cut:
        case None:
            return 0
        case Fold():
            return round_half_up(left / cut.folds)
        case Share():
            target = round_half_up(cut.fraction * total)
            return max(0, min(max(target, 1), left - 1)) if cut.stratify else min(target, left)
        case _:
            assert_never(cut)
