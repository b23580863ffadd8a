"""Find the rows of a store that the lines of a list name, by hash, file and class."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

from rayft.plan.facts import SplitName
from rayft.store.rows import RowStore

_MANY_COPIES = 16


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
    """Split and file of the row that the report compared it with; empty where it is not given."""


@final
class RowFinder:
    """Finds rows of one store by hash and file."""

    def __init__(self, store: RowStore, source: SplitName, *, known: Collection[SplitName]) -> None:
        self._store = store
        self._source = source
        self._known = known
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
        before: dict[tuple[str, int | None, str], list[int]] = {}
        for named in renamed:
            key = (named.file, named.content_hash, named.label)
            fitting = self._of_class(named)
            rows = [row for row in fitting if row not in taken][:1]
            # A line that stands twice finds its row again, and so does one of a hash alone.
            before[key] = rows or before.get(key, []) or fitting[: not named.file]
            taken.update(rows)
            yield named, before[key]

    def _at_file(self, named: NamedRow, taken: set[int]) -> list[int]:
        """Return all rows of the line's file; one of them, where the line has a hash."""
        if named.content_hash is None:
            rows = self._by_file.get(named.file, [])
            return [row for row in rows if named.label in ("", self._label(row))]
        rows = [row for row in self._of_file(named) if not self._is_to_stay(row, named)]
        rows = [row for row in rows if self._label(row) == named.label] or rows
        return ([row for row in rows if row not in taken] or rows)[:1]

    def _of_file(self, named: NamedRow) -> list[int]:
        """Return the rows with the line's hash and file."""
        rows = self._with_hash(named)
        if len(rows) <= _MANY_COPIES:
            return [row for row in rows if self._store.source_of(row) == named.file]
        # Thousands of copies are named by thousands of lines.
        hashes = self._store.content_hashes
        return [r for r in self._by_file.get(named.file, []) if hashes[r] == hashes[rows[0]]]

    def _of_class(self, named: NamedRow) -> list[int]:
        """Return the rows that can be the line's: of its class, where several have its hash."""
        rows = self._with_hash(named)
        if len(rows) > 1 and named.label:
            rows = [row for row in rows if self._label(row) == named.label]
        return [row for row in rows if not self._is_to_stay(row, named)]

    def _with_hash(self, named: NamedRow) -> list[int]:
        value = np.uint64(named.content_hash or 0)
        first, stop = (int(np.searchsorted(self._sorted, value, side=s)) for s in ("left", "right"))
        rows: list[int] = self._order[first:stop].tolist()
        return rows

    def _is_to_stay(self, row: int, named: NamedRow) -> bool:
        split, _, file = named.like.partition(" ")
        # Shares and folds are taken out of the training source.
        source = split if split in self._known else "train"
        if not file or source != self._source or self._store.source_of(row) != file:
            return False
        return (file, self._label(row)) != (named.file, named.label)

    def _label(self, row: int) -> str:
        return self._store.manifest.classes[int(self._store.labels[row])]

    @cached_property
    def _by_file(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row in range(self._store.num_rows):
            rows.setdefault(self._store.source_of(row), []).append(row)
        return rows
