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
from pathlib import Path
from typing import final, get_args

from rayft.data.named_rows import NamedRow, RowFinder
from rayft.errors import DataError, Problem, SpecError
from rayft.plan.facts import SplitName
from rayft.storage.location import Location
from rayft.store.rows import RowStore

WHERE = "data.leave_out"
COLUMNS = ("source", "file", "hash", "class", "reason", "like")
"""What the report writes; all but `reason` are read."""
_MOST_TOLD = 10
_SOURCES: Mapping[str, SplitName] = {name: name for name in get_args(SplitName)}


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
            for named, rows in RowFinder(store, source, known=stores.keys()).find(lines):
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
                    like=fields.get("like", ""),
                )
            )
            continue
        problems.append(Problem(WHERE, f"line {line} of {text}: {what}", "mend the line"))
    if problems:
        raise DataError(*_some(problems, text))
    return tuple(rows)


def _is_hash(digits: str) -> bool:
    return not digits or (len(digits) == 16 and set(digits) <= set("0123456789abcdef"))


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
        what += f" beside {named.like}, which it was compared with, and the rows of other lines"
    return Problem(WHERE, what, "remove the line, or write the list again with --report")


def _some(problems: Sequence[Problem], where: str) -> list[Problem]:
    told = list(problems[:_MOST_TOLD])
    if len(problems) > _MOST_TOLD:
        what = f"{len(problems) - _MOST_TOLD} more lines of {where} are wrong in such ways"
        told.append(Problem(WHERE, what, "mend those above first"))
    return told
