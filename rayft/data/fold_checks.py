"""Whether every class can be in every fold, so that each run of a cross-validation can start."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rayft.data.labels import capped
from rayft.errors import DataError, Problem
from rayft.store.splits import Cuts, Fold, folds_of
from rayft.store.units import Mask


def check_fold_counts(
    cuts: Cuts,
    *,
    classes: Sequence[str],
    labels: npt.NDArray[np.integer],
    groups: npt.NDArray[np.uint64] | None,
) -> None:
    """Check, before contents are known, that no class is certain to have too few rows for folds.

    Args:
        cuts: what is taken out of the training source.
        classes: label names of the source.
        labels: [N] places in `classes` of its rows.
        groups: [N] rows with equal numbers stay together; None where each is its own.

    Raises:
        DataError: a class has fewer rows, or is in fewer groups, than there are folds.
    """
    if not isinstance(cuts.validation, Fold):
        return
    rows = np.bincount(labels, minlength=len(classes))
    # Which groups test takes, and what a share by hash alone takes, nobody knows yet.
    if groups is not None or (cuts.test is not None and not cuts.test.stratify):
        cuts = replace(cuts, test=None)
    units = rows if groups is None else _units_of_classes(groups, labels, len(classes))
    if cuts.test is not None:
        rows = units = rows - np.array([cuts.expected(count)["test"] for count in rows.tolist()])
    _refuse_few(cuts, classes, rows=rows, units=units)


def check_folds(
    cuts: Cuts,
    *,
    classes: Sequence[str],
    labels: npt.NDArray[np.integer],
    units: npt.NDArray[np.uint64],
    counts: Mask,
) -> None:
    """Check that every class has a row in each fold, so that every run of a study can start.

    Args:
        cuts: what is taken out of the training source.
        classes: label names of the source.
        labels: [N] places in `classes` of its rows.
        units: [N] rows with equal hashes stay together.
        counts: [N] rows that are not left out.

    Raises:
        DataError: a fold has no row of a class.
    """
    if not isinstance(cuts.validation, Fold):
        return
    folds = folds_of(cuts, hashes=units, labels=labels, classes=classes)
    parted = counts & (folds >= 0)
    cells = np.zeros((cuts.validation.folds, len(classes)), dtype=np.int64)
    np.add.at(cells, (folds[parted], labels[parted]), 1)
    found = _units_of_classes(units[parted], labels[parted], len(classes))
    _refuse_few(cuts, classes, rows=cells.sum(axis=0), units=found)
    fold, label = (axis.tolist() for axis in np.nonzero(cells == 0))
    if fold:
        what = (
            f"fold {fold[0]} has no row of class {classes[label[0]]}, whose "
            f"{found[label[0]]} groups lie together with rows of other classes"
        )
        fix = "take another number of folds, add rows of this class, or remove it"
        raise DataError(Problem("data.validation.folds", what, fix))


def _units_of_classes(
    units: npt.NDArray[np.uint64], labels: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.int64]:
    """Return in how many units each class [C] is."""
    number = np.unique(units, return_inverse=True)[1].astype(np.int64)
    pairs = np.unique(number * num_classes + labels)
    return np.bincount(pairs % num_classes, minlength=num_classes)


def _refuse_few(
    cuts: Cuts,
    classes: Sequence[str],
    *,
    rows: npt.NDArray[np.int64],
    units: npt.NDArray[np.int64],
) -> None:
    """Refuse classes [C] whose rows are in fewer units than there are folds."""
    assert isinstance(cuts.validation, Fold)
    short = np.flatnonzero(units < cuts.validation.folds).tolist()
    if not short:
        return
    named = capped([_class_size(classes[i], rows=int(rows[i]), units=int(units[i])) for i in short])
    there = "there are fewer" if cuts.test is None else "test leaves fewer"
    most = int(units.min())
    fewer = f"take {most} folds, " if most > 1 else ""
    raise DataError(
        Problem(
            "data.validation.folds",
            f"{cuts.validation.folds} folds need as many rows of each class that can be parted, "
            f"and {there}: {named}",
            f"{fewer}add rows of these classes, or remove these classes",
        )
    )


def _class_size(name: str, *, rows: int, units: int) -> str:
    parted = "" if units == rows else f" in {units} groups"
    return f"{name} has {rows}{parted}"
