"""Sources of kind `csv`: a manifest with one row for each image file."""

import csv
import os
from pathlib import Path

from rayft.data.labels import capped, code_labels
from rayft.data.listing import Listing, hash_groups, make_listing, missing_column, resolve_path
from rayft.data.readers import FileRows, printable
from rayft.errors import DataError, Problem
from rayft.spec.data import CsvSource

Row = dict[str, str | None]


def list_csv(source: CsvSource, *, base_dir: Path) -> Listing:
    """List the rows of a CSV manifest, in the order of its lines.

    Raises:
        DataError: the file or a column is missing, a path is empty or leaves `root`, or a
            label is missing.
    """
    path = resolve_path(source.path, base_dir=base_dir, where=source.path)
    where = printable(str(path))
    rows = read_csv(path)
    wanted = {"image": source.image, "label": source.label}
    if source.group is not None:
        wanted["group"] = source.group
    columns = list(rows[0]) if rows else []
    absent = {setting: name for setting, name in wanted.items() if rows and name not in columns}
    if absent:
        raise DataError(
            *(missing_column(n, columns, where=where, setting=s) for s, n in absent.items())
        )
    root = path.parent
    if source.root is not None:
        root = resolve_path(source.root, base_dir=base_dir, where=source.root)
    return make_listing(
        where=where,
        labels=code_labels([row[source.label] or None for row in rows]),
        groups=None
        if source.group is None
        else hash_groups(row[source.group] or None for row in rows),
        reader=confined_files(root, [row[source.image] for row in rows], where=where),
    )


def read_csv(path: Path) -> list[Row]:
    """Return the rows of a CSV file by column name; a byte order mark is passed over.

    Raises:
        DataError: the file is missing, is not UTF-8, or is not a CSV file.
    """
    where = printable(str(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, restkey="(beyond the header)"))
    except OSError as error:
        fix = "check the source's `path`"
        raise DataError(Problem(where, f"it cannot be read: {error.strerror}", fix)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        fix = "save it as a comma-separated file in UTF-8"
        raise DataError(Problem(where, f"it is no CSV file: {error}", fix)) from error


def confined_files(root: Path, paths: list[str | None], *, where: str) -> FileRows:
    """Return a reader of the files `paths`, relative to `root` and inside of it.

    Raises:
        DataError: a path is empty, or leaves `root`.
    """
    inside, outside = [], []
    start = str(root).rstrip(os.sep) + os.sep
    for row, path in enumerate(paths):
        full = os.path.normpath(os.path.join(root, path or ""))  # noqa: PTH118  one call per row
        if path and full.startswith(start):
            inside.append(full[len(start) :])
        else:
            outside.append(f"row {row}: {path!r}" if path else f"row {row}: no path")
    if outside:
        raise DataError(
            Problem(
                where,
                f"{len(outside)} paths do not lie inside {root}: {capped(outside)}",
                "name images inside the folder, or set `root` to one that holds them all",
            )
        )
    return FileRows(root=str(root), paths=tuple(inside), confined=True)
