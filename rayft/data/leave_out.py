"""`data.leave_out`: a CSV file of rows that no split gets, written by the report or by hand.

A row is known by its source and by the hash of its content, so that a list outlives other files
and another order of rows. Where several rows of a source share a hash, `file` says which is meant,
then the class. A line without a hash is about all rows of its `file`, as the report and the
predictions name it. The row that a line's `like` names is the one that was to stay: it is never
taken in place of another that is gone.
"""

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final, get_args

import numpy as np

from rayft.errors import DataError, Problem, SpecError
from rayft.plan.facts import SplitName
from rayft.storage.location import Location
from rayft.store.rows import RowStore

WHERE = "data.leave_out"
COLUMNS = ("source", "file", "hash", "class", "reason", "like")
"""What the report writes; all but `reason` are read."""
_MOST_TOLD = 10
_SOURCES: Mapping[str, SplitName] = {name: name for name in get_args(SplitName)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRow:
    """A line of the list."""

    line: int
    """Line of the file, from 1; the header is the first."""
    source: SplitName
    """The setting below `data:` that names the row's source."""
    file: str
    """The row's file, or file and place in it; empty where only the hash is given."""
    content_hash: int | None
    """Hash of the row's content; None where only the file is given."""
    label: str
    """The row's class; empty where it is not given."""
    like: str
    """File of the row that the report compared it with; empty where it is not given."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOutList:
    """A list of rows as it was read."""

    where: str
    rows: tuple[NamedRow, ...]

    def find(self, stores: Mapping[SplitName, RowStore]) -> dict[SplitName, tuple[int, ...]]:
        """Return the ids of the named rows of each source, ascending.

        Args:
            stores: the row stores of the sources.

        Raises:
            DataError: a row is not there; names the line, of all such lines.
        """
        found: dict[SplitName, set[int]] = {named.source: set() for named in self.rows}
        missing = {named.line: named for named in self.rows}
        for source, store in stores.items():
            lines = [named for named in self.rows if named.source == source]
            for named, rows in _Finder(store).find(lines):
                found[source].update(rows)
                if rows:
                    del missing[named.line]
        if missing:
            known = stores.keys()
            told = [_not_found(self.where, named, known=known) for named in missing.values()]
            raise DataError(*_some(told, self.where))
        return {source: tuple(sorted(ids)) for source, ids in found.items()}


def read_list(text: str | None, *, base_dir: Path) -> LeaveOutList | None:
    """Read the file that `data.leave_out` names.

    Args:
        text: the setting; None where it is not given.
        base_dir: the folder that a relative path starts from.

    Raises:
        DataError: the file is missing, is no such list, or a line names no row.
    """
    if text is None:
        return None
    try:
        place = Location.parse(text, base_dir=base_dir, where=WHERE)
        content = place.read_bytes()
    except SpecError as error:
        raise DataError(*error.problems) from error
    except OSError as error:
        what = f"{text} cannot be read: {error.strerror or error}"
        raise DataError(Problem(WHERE, what, "check its path, or remove the setting")) from error
    try:
        lines = list(_lines(content))
    except (UnicodeDecodeError, csv.Error) as error:
        fix = "save it as a comma-separated file in UTF-8"
        raise DataError(Problem(WHERE, f"{text} is no CSV file: {error}", fix)) from error
    return LeaveOutList(where=text, rows=_named(text, lines))


def _lines(content: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    with io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="(beyond the header)", restval="")
        if not {"file", "hash"} & set(reader.fieldnames or ()):
            raise csv.Error("its first line names neither a column `file` nor `hash`")
        for fields in reader:
            yield reader.line_num, {name: str(value).strip() for name, value in fields.items()}


def _named(text: str, lines: Sequence[tuple[int, dict[str, str]]]) -> tuple[NamedRow, ...]:
    rows, problems = [], []
    for line, fields in lines:
        source = _SOURCES.get(fields.get("source") or "train")
        digits = fields.get("hash", "")
        if source is None:
            what = f"source is {fields['source']!r}; expected train, validation or test"
        elif not digits and not fields.get("file"):
            what = "it gives neither a file nor a hash"
        elif not _is_hash(digits):
            what = f"hash is {digits!r}; expected 16 digits 0-9 and a-f"
        else:
            rows.append(
                NamedRow(
                    line=line,
                    source=source,
                    file=fields.get("file", ""),
                    content_hash=int(digits, 16) if digits else None,
                    label=fields.get("class", ""),
                    like=fields.get("like", "").partition(" ")[2],
                )
            )
            continue
        problems.append(Problem(WHERE, f"line {line} of {text}: {what}", "mend the line"))
    if problems:
        raise DataError(*_some(problems, text))
    return tuple(rows)


def _is_hash(digits: str) -> bool:
    return not digits or (len(digits) == 16 and set(digits) <= set("0123456789abcdef"))


@final
class _Finder:
    """Finds rows of one store by hash and file."""

    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._order = np.argsort(store.content_hashes, kind="stable")
        self._sorted = store.content_hashes[self._order]

    def find(self, lines: Sequence[NamedRow]) -> Iterator[tuple[NamedRow, list[int]]]:
        """Give each line with the rows that it is about: none where they are not there.

        Lines whose file is there choose first, the others of what is left with their hash.
        """
        taken: set[int] = set()
        renamed = []
        for named in lines:
            rows = self._at_file(named, taken)
            taken.update(rows)
            if rows or named.content_hash is None:
                yield named, rows
            else:
                renamed.append(named)
        for named in renamed:
            rows = [row for row in self._of_class(named) if row not in taken][:1]
            taken.update(rows)
            yield named, rows

    def _at_file(self, named: NamedRow, taken: set[int]) -> list[int]:
        """Return all rows of the line's file; one of them, where the line has a hash."""
        if named.content_hash is None:
            rows = self._by_file.get(named.file, [])
            return [row for row in rows if self._label(row) == named.label] or rows
        rows = [row for row in self._with_hash(named) if self._store.source_of(row) == named.file]
        rows = [row for row in rows if self._label(row) == named.label] or rows
        # A line that stands twice finds its row again.
        return ([row for row in rows if row not in taken] or rows)[:1]

    def _of_class(self, named: NamedRow) -> list[int]:
        rows = self._with_hash(named)
        return [row for row in rows if len(rows) == 1 or named.label in ("", self._label(row))]

    def _with_hash(self, named: NamedRow) -> list[int]:
        """Return the rows with the line's hash, but for that which was to stay."""
        value = np.uint64(named.content_hash or 0)
        first, stop = (int(np.searchsorted(self._sorted, value, side=s)) for s in ("left", "right"))
        rows: list[int] = self._order[first:stop].tolist()
        return [row for row in rows if not self._is_to_stay(row, named)]

    def _is_to_stay(self, row: int, named: NamedRow) -> bool:
        if not named.like or self._store.source_of(row) != named.like:
            return False
        return (named.like, self._label(row)) != (named.file, named.label)

    def _label(self, row: int) -> str:
        return self._store.manifest.classes[int(self._store.labels[row])]

    @cached_property
    def _by_file(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row in range(self._store.num_rows):
            rows.setdefault(self._store.source_of(row), []).append(row)
        return rows


def _not_found(where: str, named: NamedRow, *, known: Collection[SplitName]) -> Problem:
    row = named.file or f"hash {named.content_hash:016x}"
    what = f"line {named.line} of {where} names {row}, and "
    if named.source not in known:
        what += f"`data.{named.source}` is no source of rows"
        fix = "set the line's source to train, where shares and folds are taken from"
        return Problem(WHERE, what, fix)
    what += f"the {named.source} source has no such row"
    if named.content_hash is not None and named.file:
        what += f" with the hash {named.content_hash:016x}"
    if named.like:
        what += f" beside {named.like}, which was to stay, and the rows of other lines"
    return Problem(WHERE, what, "remove the line, or write the list again with --report")


def _some(problems: Sequence[Problem], where: str) -> list[Problem]:
    told = list(problems[:_MOST_TOLD])
    if len(problems) > _MOST_TOLD:
        what = f"{len(problems) - _MOST_TOLD} more lines of {where} are wrong in such ways"
        told.append(Problem(WHERE, what, "mend those above first"))
    return told
