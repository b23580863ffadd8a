"""What a dataset must be before a run may start on it."""

import math
import shutil
from collections.abc import Mapping, Sequence
from tempfile import TemporaryFile

from rayft.data.labels import NAMES_SHOWN, capped
from rayft.errors import DataError, Problem
from rayft.plan.facts import SplitName
from rayft.spec.data import DataSpec, FoldsSpec, SplitSpec
from rayft.storage.location import Location
from rayft.store.manifest import Manifest

DISK_RESERVE_BYTES = 64 * 2**20


def check_classes(
    classes: Mapping[SplitName, Sequence[str]], where: Mapping[SplitName, str]
) -> None:
    """Check the classes of the sources against those of the training source.

    Args:
        classes: label names of each source.
        where: the source of each, as messages name it.

    Raises:
        DataError: training has fewer than two classes, or another source has labels that
            training does not have.
    """
    known = classes["train"]
    problems = []
    if len(known) < 2:
        what = f"training has one class only: {capped(known)}"
        fix = "check that the label column (or folder) is the right one"
        problems.append(Problem(where["train"], what, fix))
    for split, names in classes.items():
        if unseen := [name for name in names if name not in set(known)]:
            what = f"labels of {split} that training does not have: {capped(unseen)}"
            fix = f"remove these rows, or rename them to one of: {capped(known)}"
            problems.append(Problem(where[split], what, fix))
    if problems:
        raise DataError(*problems)


def check_counts(
    data: DataSpec, *, classes: Sequence[str], counts: Mapping[SplitName, Sequence[int]]
) -> None:
    """Check that every split has the rows it needs.

    Raises:
        DataError: a class has no training row, a stratified share misses a class, or a split
            is empty.
    """
    problems = []
    for split, rows in counts.items():
        share = {"train": None, "validation": data.validation, "test": data.test}[split]
        stratified = isinstance(share, FoldsSpec) or (
            isinstance(share, SplitSpec) and share.stratify
        )
        missing = [name for name, count in zip(classes, rows, strict=True) if not count]
        if missing and (split == "train" or stratified or not any(rows)):
            what = f"classes without a row in {split}: {capped(missing)}"
            problems.append(Problem(f"data.{split}", what, _fix_for_counts(split, share)))
    if problems:
        raise DataError(*problems)


def check_bad_rows(manifest: Manifest, *, where: str, limit: float) -> None:
    """Check that no more rows than allowed were put aside.

    Raises:
        DataError: more were; with their number and the first few, each with its reason.
    """
    bad = {row.source: row.reason for row in manifest.quarantined[:NAMES_SHOWN]}
    refuse_bad_rows(
        bad, num_bad=len(manifest.quarantined), num_rows=manifest.num_rows, limit=limit, where=where
    )


def refuse_bad_rows(
    bad: Mapping[str, str], *, num_bad: int, num_rows: int, limit: float, where: str
) -> None:
    """Refuse a source of which too large a share cannot be read.

    Args:
        bad: reason by row, of a few rows at least.
        num_bad: the number of all such rows.
        num_rows: rows of the source.
        limit: largest share that is put aside.
        where: the source, as messages name it.

    Raises:
        DataError: the share is above the limit.
    """
    if num_bad / num_rows <= limit:
        return
    first = "".join(f"\n    {row}: {reason}" for row, reason in list(bad.items())[:NAMES_SHOWN])
    what = f"{num_bad} of {num_rows} images cannot be read, and `data.bad_rows.limit` is {limit:g}:"
    fix = (
        "mend or remove them, or set `data.bad_rows.limit` to at least "
        f"{math.ceil(1000 * num_bad / num_rows) / 1000:g} to put them aside"
    )
    raise DataError(Problem(where, what + first, fix))


def check_disk(place: Location, *, needed_bytes: int) -> None:
    """Check that a folder can be written and has room, making it where it is missing.

    An object store has room; whether it can be written is checked before any run.

    Raises:
        DataError: it cannot be written, or has too little space.
    """
    if not place.is_local:
        return
    fix, store_root = "choose another `storage_path`", place.path
    try:
        store_root.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=store_root):
            pass
        free = shutil.disk_usage(store_root).free
    except OSError as error:
        what = f"the folder cannot be written: {error.strerror}"
        raise DataError(Problem(str(store_root), what, fix)) from error
    if needed_bytes + DISK_RESERVE_BYTES > free:
        what = f"the row stores need {needed_bytes / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free"
        raise DataError(Problem(str(store_root), what, f"free space there, or {fix}"))


def _fix_for_counts(split: SplitName, share: object) -> str:
    if split == "train":
        return "add rows of these classes, or take a smaller share for validation and test"
    if isinstance(share, SplitSpec):
        return (
            f"raise `data.{split}.fraction`, add rows of these classes, or set "
            f"`data.{split}.stratify` to false"
        )
    if isinstance(share, FoldsSpec):
        return "take fewer folds, or add rows of these classes"
    return "add rows whose images can be read"
