"""Leaks: rows of a split that measures which are equal to rows it must not share, or look alike."""

from collections.abc import Iterator, Mapping

import numpy as np

from rayft.data.report.contents import Contents
from rayft.data.report.finding import Finding, examples_of, share
from rayft.data.report.near import ALIKE, Pairs, cut_short
from rayft.data.report.rows import SPLITS

_TRAIN, _VALIDATION, _TEST = (SPLITS.index(name) for name in ("train", "validation", "test"))
_LEAKS = ((_TEST, _TRAIN), (_TEST, _VALIDATION), (_VALIDATION, _TRAIN))
"""Split that measures, and split that it must share no picture with."""

MOST_NEAR_LEAKS = 0.1
"""Share of rows above which look-alikes across splits are the nature of the pictures (digits, scans
of one organ), not copies; none of them is then proposed to be left out."""


def leaks_finding(contents: Contents) -> Finding:
    """Return what is found about leaks between splits."""
    twins = list(_twins_across(contents))
    rows = contents.rows
    notes = []
    for measures, learns in _LEAKS:
        total = int((rows.split == measures).sum())
        count = sum(1 for leak, *_ in twins if leak == (measures, learns))
        if count:
            name, other_name = SPLITS[measures], SPLITS[learns]
            notes.append(
                f"{count:,} of {total:,} {name} rows ({share(count, total)}) are in {other_name}"
            )
    if _are_alike_by_nature(_near_leaks(contents), contents):
        notes.append("so many that the pictures are alike by nature: look-alikes are not proposed")
    seen: dict[int, tuple[int, int, str]] = {}
    for _, place, twin, detail in twins:
        seen.setdefault(place, (place, twin, detail))
    return Finding(
        name="leaks",
        title="leaks between splits",
        rule="Rows of test or validation that are equal to a row of a split that training sees, "
        f"or look like one: {ALIKE}.",
        count=len(seen),
        examples=examples_of(rows, seen.values()),
        note="; ".join([*notes, *cut_short(contents.pairs)]),
    )


def proposed_leaks(contents: Contents) -> dict[int, int]:
    """Return the rows to leave out that look like a row of a split that measures them, with it.

    None where they are so many that the pictures must be alike by nature.
    """
    near = _near_leaks(contents)
    return {} if _are_alike_by_nature(near, contents) else near


def _are_alike_by_nature(near: Mapping[int, int], contents: Contents) -> bool:
    return len(near) > MOST_NEAR_LEAKS * len(contents.rows)


def _near_leaks(contents: Contents) -> dict[int, int]:
    """Return every row that looks like one of a split that measures it, and the most alike one."""
    first_in = contents.first_in
    found: dict[tuple[int, int], int] = {}
    for ours, theirs, _ in _both_ways(contents.pairs):
        for measures, learns in _LEAKS:
            if first_in[ours, learns] >= 0 and first_in[theirs, measures] >= 0:
                found.setdefault((ours, learns), int(first_in[theirs, measures]))
    return {
        place: twin
        for (content, learns), twin in found.items()
        for place in contents.rows_in(content, learns)
    }


def _twins_across(contents: Contents) -> Iterator[tuple[tuple[int, int], int, int, str]]:
    """Give each kind of leak, measuring row, most alike twin, and how alike: the most alike first.

    A row comes once for each kind of leak.
    """
    found: dict[tuple[int, tuple[int, int]], tuple[int, str]] = {}
    for ours, theirs, detail in _meetings(contents):
        for measures, learns in _LEAKS:
            twin = int(contents.first_in[theirs, learns])
            if twin >= 0 and contents.first_in[ours, measures] >= 0:
                found.setdefault((ours, (measures, learns)), (twin, detail))
    for (content, leak), (twin, detail) in found.items():
        yield from ((leak, place, twin, detail) for place in contents.rows_in(content, leak[0]))


def _meetings(contents: Contents) -> Iterator[tuple[int, int, str]]:
    """Give the contents that are in several splits or look alike, and how alike they are."""
    for content in np.flatnonzero(np.bitwise_count(contents.splits) > 1).tolist():
        yield content, content, "equal bytes"
    for ours, theirs, alike in _both_ways(contents.pairs):
        yield ours, theirs, f"correlation {alike:.3f}"


def _both_ways(pairs: Pairs) -> Iterator[tuple[int, int, float]]:
    """Give every pair of contents in both directions with its correlation, the most alike first."""
    both = pairs.first.tolist(), pairs.second.tolist(), pairs.correlation.tolist()
    for first, second, alike in zip(*both, strict=True):
        yield first, second, alike
        yield second, first, alike
