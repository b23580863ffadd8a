"""Sources of kind `csv`: a manifest with one row for each image file."""

import csv
import io
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from rayft.data.labels import capped, code_labels
from rayft.data.listing import Listing, hash_groups, make_listing, missing_column, resolve_place
from rayft.data.raw import printable
from rayft.data.readers import FileRows
from rayft.data.remote import how_to_test, look_up_all
from rayft.errors import DataError, Problem
from rayft.spec.sources import CsvSource
from rayft.storage.location import Location, StorageFault

Row = dict[str, str | None]


def list_csv(source: CsvSource, *, base_dir: Path) -> Listing:
    """List the rows of a CSV manifest, in the order of its lines.

    Raises:
        DataError: the file or a column is missing, a path is empty or leaves `root`, or a
            label is missing.
    """
    place = resolve_place(source.path, base_dir=base_dir)
    where = printable(str(place))
    rows = read_csv(place)
    wanted = {"image": source.image, "label": source.label}
    if source.group is not None:
        wanted["group"] = source.group
    columns = list(rows[0]) if rows else []
    absent = {setting: name for setting, name in wanted.items() if rows and name not in columns}
    if absent:
        raise DataError(
            *(missing_column(n, columns, where=where, setting=s) for s, n in absent.items())
        )
    root = place.parent
    if source.root is not None:
        root = resolve_place(source.root, base_dir=base_dir)
    return make_listing(
        where=where,
        labels=code_labels([row[source.label] or None for row in rows]),
        groups=None
        if source.group is None
        else hash_groups(row[source.group] or None for row in rows),
        reader=confined_files(root, [row[source.image] for row in rows], where=where),
    )


def read_csv(place: Location) -> list[Row]:
    """Return the rows of a CSV file by column name; a byte order mark is passed over.

    Raises:
        DataError: the file is missing, is not UTF-8, or is not a CSV file.
    """
    where = printable(str(place))
    try:
        content = io.BytesIO(place.read_bytes())
        with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, restkey="(beyond the header)"))
    except OSError as error:
        lost = isinstance(error, StorageFault)
        fix = how_to_test(place) if lost else "check the source's `path`"
        raise DataError(Problem(where, f"it cannot be read: {error.strerror}", fix)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        fix = "save it as a comma-separated file in UTF-8"
        raise DataError(Problem(where, f"it is no CSV file: {error}", fix)) from error


def confined_files(root: Location, paths: Sequence[str | None], *, where: str) -> FileRows:
    """Return a reader of the files `paths`, relative to `root` and inside of it.

    Files of an object store are looked up by one listing; those that are not there become rows
    that cannot be read.

    Raises:
        DataError: a path is empty, or leaves `root`.
    """
    inside, outside = [], []
    start = root.url.rstrip("/") + "/"
    join = _join_local if root.is_local else _join_remote
    for row, path in enumerate(paths):
        full = join(root.url, path or "")
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
    if root.is_local:
        return FileRows(root=root, paths=tuple(inside), confined=True)
    states = look_up_all(root, inside)
    listed = tuple(states.get(path) for path in inside)
    return FileRows(root=root, paths=tuple(inside), confined=True, listed=listed)


def _join_local(root: str, path: str) -> str:
    return os.path.normpath(os.path.join(root, path))  # noqa: PTH118  one call per row


def _join_remote(root: str, path: str) -> str:
    """Return the address that a path means; one that starts with `/` lies in no bucket."""
    scheme, _, rest = (path if "://" in path else f"{root}/{path}").partition("://")
    if path.startswith("/"):
        return path
    return f"{scheme}://{posixpath.normpath(rest)}"
