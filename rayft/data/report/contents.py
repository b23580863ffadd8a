"""Rows by what they hold: which are equal, and which splits and classes share a content."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import numpy.typing as npt

from rayft.data.report.measure import Measures
from rayft.data.report.near import Pairs, near_pairs
from rayft.data.report.rows import SPLITS, Ids, ReportRows

PLAIN = 3 / 255
"""Contrast below which an image counts as blank: less than JPEG leaves of a plain sheet."""

# The row of a content that is kept when the others go: first that of the rarer, final figures.
_KEPT_FIRST = np.array([SPLITS.index("test"), SPLITS.index("validation"), SPLITS.index("train")])


@final
@dataclass(frozen=True, kw_only=True)
class Contents:
    """The distinct contents of N rows, and which of them look alike."""

    rows: ReportRows
    number: Ids
    """[N] content of each row."""
    order: Ids
    """[N] places of rows by content; within one test first, then validation, then training."""
    starts: Ids
    """[U + 1] where each content begins in `order`."""
    pairs: Pairs
    """Pairs of contents that look alike, and are not blank."""

    @property
    def keepers(self) -> Ids:
        """The place [U] of the row of each content that is to stay."""
        return self.order[self.starts[:-1]]

    @cached_property
    def splits(self) -> npt.NDArray[np.int64]:
        """The splits [U] that hold each content: bit `s` for split `s`."""
        bits = np.left_shift(1, self.rows.split.astype(np.int64))
        return np.bitwise_or.reduceat(bits[self.order], self.starts[:-1])

    @cached_property
    def first_in(self) -> Ids:
        """The place [U, splits] of the first row of each content in each split; -1 for none."""
        firsts = np.full((len(self.starts) - 1, len(SPLITS)), -1, dtype=np.int64)
        # Written backwards, so that the first one stays.
        backwards = self.order[::-1]
        firsts[self.number[backwards], self.rows.split[backwards]] = backwards
        return firsts

    @cached_property
    def labels(self) -> tuple[Ids, Ids]:
        """The smallest and the largest class [U] of the rows of each content."""
        labels, starts = self.rows.label[self.order], self.starts[:-1]
        return np.minimum.reduceat(labels, starts), np.maximum.reduceat(labels, starts)

    @property
    def has_conflict(self) -> npt.NDArray[np.bool_]:
        """Whether rows of a content [U] have different classes."""
        low, high = self.labels
        differs: npt.NDArray[np.bool_] = low != high
        return differs

    def members(self, content: int) -> list[int]:
        """Return the places of the rows of a content, that which stays first."""
        places: list[int] = self.order[self.starts[content] : self.starts[content + 1]].tolist()
        return places

    def rows_in(self, content: int, split: int) -> list[int]:
        """Return the places of the rows of a content that are in a split."""
        return [place for place in self.members(content) if self.rows.split[place] == split]


def find_contents(rows: ReportRows, measures: Measures) -> Contents:
    """Sort rows by content, and find which contents look alike.

    Args:
        rows: at least one row.
        measures: what was measured of them, in their order.
    """
    unique, number = np.unique(rows.content, return_inverse=True)
    preference = np.argsort(_KEPT_FIRST)[rows.split]
    order = np.lexsort((np.arange(len(rows)), preference, number))
    starts = np.searchsorted(number[order], np.arange(len(unique) + 1))
    keepers = order[starts[:-1]]
    # Blank images look like one another, and have a finding of their own.
    textured = np.flatnonzero(
        (measures.contrast[keepers] >= PLAIN)
        & (measures.thumb[keepers].reshape(len(keepers), -1).std(axis=1) >= 1)
    )
    found = near_pairs(measures.look[keepers[textured]], measures.thumb[keepers[textured]])
    pairs = Pairs(
        first=textured[found.first],
        second=textured[found.second],
        correlation=found.correlation,
        complete=found.complete,
    )
    return Contents(rows=rows, number=number, order=order, starts=starts, pairs=pairs)
