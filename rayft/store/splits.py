"""Which part of a source a row belongs to, decided by its class and the hash of its content.

Rows that share a hash are one unit and never parted (`rayft.store.units`).
Within each class, units lie in the order of their hashes, which no seed and no order of files
changes, and a part takes a stretch of them. When rows come or go, only units at the ends of
their class's stretches may change their part. ADR 0019 says why.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
import numpy.typing as npt

from rayft.plan.facts import SplitName
from rayft.store.units import Mask, Units, units_of


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


def folds_of(
    cuts: Cuts,
    *,
    hashes: npt.NDArray[np.uint64],
    labels: npt.NDArray[np.integer],
    classes: Sequence[str],
) -> npt.NDArray[np.int64]:
    """Return the fold [N] that each row is in, -1 for a row of test.

    Args:
        cuts: with folds for validation; which of them validates plays no part.
        hashes: [N] what must stay together shares one.
        labels: [N] places in `classes`.
        classes: names of the classes.
    """
    assert isinstance(cuts.validation, Fold)
    units = units_of(hashes, labels)
    left = np.ones(len(units.hashes), dtype=np.bool_)
    if cuts.test is not None:
        left &= ~_taken(cuts.test, units, left, classes=classes, start=0.0)
    found = np.full(len(left), -1, dtype=np.int64)
    for fold in range(cuts.validation.folds):
        cut = replace(cuts.validation, fold=fold)
        found[_taken(cut, units, left, classes=classes, start=0.0)] = fold
    return found[units.of_row]


def hash_places(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Return the place on [0, 1) of each hash [N]: its upper 53 bits, which a float64 holds."""
    return (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53


def row_hash(content: bytes | memoryview) -> int:
    """Return the 64-bit hash that rows and groups are known by."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


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
