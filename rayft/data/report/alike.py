"""Findings about rows that are equal or look alike: duplicates, and labels that disagree."""

from collections.abc import Iterator

import numpy as np

from rayft.data.report.contents import Contents
from rayft.data.report.finding import Finding, Proposal, examples_of
from rayft.data.report.leaks import leaks_finding, proposed_leaks
from rayft.data.report.near import ALIKE, cut_short
from rayft.data.report.rows import SPLITS

_KEPT_FIRST = tuple(SPLITS.index(name) for name in ("test", "validation", "train"))


def alike_findings(contents: Contents) -> list[Finding]:
    """Return what is found about rows that are equal or look alike."""
    return [
        _exact_duplicates(contents),
        _conflicting_labels(contents),
        leaks_finding(contents),
        _near_duplicates(contents),
        _suspicious_labels(contents),
    ]


def alike_proposals(contents: Contents) -> Iterator[Proposal]:
    """Give the rows to leave out.

    Of equal rows all but one, of equal rows of several classes all, and rows that training sees
    and that look like a row of test or validation: unless these are so many that the pictures must
    be alike by nature. Look-alikes within a split stay.
    """
    rows = contents.rows
    for content in np.flatnonzero(contents.has_conflict).tolist():
        first, other = _of_two_classes(contents, content)
        for place in contents.members(content):
            like = first if rows.label[place] != rows.label[first] else other
            yield Proposal(place=place, reason="conflicting labels", like=like)
    for place, keeper in _copies(contents):
        leaks = rows.split[place] != rows.split[keeper]
        reason = "exact leak" if leaks else "exact duplicate"
        yield Proposal(place=place, reason=reason, like=keeper)
    for place, twin in proposed_leaks(contents).items():
        yield Proposal(place=place, reason="near leak", like=twin)


def _of_two_classes(contents: Contents, content: int) -> tuple[int, int]:
    """Return the first row of a content, and the first that has another class than it."""
    members, labels = contents.members(content), contents.rows.label
    return members[0], next(p for p in members if labels[p] != labels[members[0]])


def _copies(contents: Contents) -> Iterator[tuple[int, int]]:
    """Give every row beyond the first of its content, and that first one."""
    sizes = np.diff(contents.starts)
    for content in np.flatnonzero(sizes > 1).tolist():
        keeper, *others = contents.members(content)
        yield from ((place, keeper) for place in others)


def _exact_duplicates(contents: Contents) -> Finding:
    copies = list(_copies(contents))
    return Finding(
        name="exact_duplicates",
        title="exact duplicates",
        rule="Rows whose content is, byte for byte, that of another row; the first is not counted.",
        count=len(copies),
        examples=examples_of(
            contents.rows, ((place, keeper, "equal bytes") for place, keeper in copies)
        ),
    )


def _conflicting_labels(contents: Contents) -> Finding:
    rows = contents.rows
    seen = []
    for content in np.flatnonzero(contents.has_conflict).tolist():
        first, other = _of_two_classes(contents, content)
        ours, theirs = (rows.classes[int(rows.label[p])] for p in (first, other))
        seen.append((first, other, f"equal bytes, {ours} and {theirs}"))
    return Finding(
        name="conflicting_labels",
        title="equal rows of different classes",
        rule="Rows with equal bytes that have different classes.",
        count=int(contents.has_conflict[contents.number].sum()),
        examples=examples_of(rows, seen),
    )


def _near_duplicates(contents: Contents) -> Finding:
    pairs, rows = contents.pairs, contents.rows
    shared = contents.splits[pairs.first] & contents.splits[pairs.second]
    splits = np.zeros(len(contents.splits), dtype=np.int64)
    for side in (pairs.first, pairs.second):
        np.bitwise_or.at(splits, side, shared)

    def seen() -> Iterator[tuple[int, int, str]]:
        for pair in np.flatnonzero(shared).tolist():
            split = next(s for s in _KEPT_FIRST if int(shared[pair]) >> s & 1)
            ends = (pairs.first[pair], pairs.second[pair])
            first, second = (int(contents.first_in[end, split]) for end in ends)
            yield first, second, _likeness(contents, pair, first, second)

    return Finding(
        name="near_duplicates",
        title="near duplicates in a split",
        rule="Rows that look like another row of their split, and are not equal to it: "
        f"{ALIKE}. Mirrored or much cropped copies are not found.",
        count=int((splits[contents.number] >> rows.split & 1).sum()),
        examples=examples_of(rows, seen()),
        note="; ".join(cut_short(contents.pairs)),
    )


def _suspicious_labels(contents: Contents) -> Finding:
    pairs, rows = contents.pairs, contents.rows
    low, high = contents.labels
    # The smallest and the largest class of what each content looks like.
    least, most = np.full(len(low), len(rows.classes)), np.full(len(low), -1)
    for ours, theirs in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        np.minimum.at(least, ours, low[theirs])
        np.maximum.at(most, ours, high[theirs])
    of_row = (least[contents.number], most[contents.number])
    counts = (of_row[1] >= 0) & ((of_row[0] != rows.label) | (of_row[1] != rows.label))
    differs = (low[pairs.first] != high[pairs.second]) | (high[pairs.first] != low[pairs.second])

    def seen() -> Iterator[tuple[int, int, str]]:
        for pair in np.flatnonzero(differs).tolist():
            ends = (int(pairs.first[pair]), int(pairs.second[pair]))
            first, second = _of_other_classes(contents, *ends)
            yield first, second, _likeness(contents, pair, first, second)

    return Finding(
        name="suspicious_labels",
        title="look alike, of different classes",
        rule=f"Rows that look like a row of another class: {ALIKE}.",
        count=int(counts.sum()),
        examples=examples_of(rows, seen()),
        note="; ".join(cut_short(contents.pairs)),
    )


def _of_other_classes(contents: Contents, ours: int, theirs: int) -> tuple[int, int]:
    """Return the first row of each of two contents that have different classes."""
    labels = contents.rows.label
    first, second = contents.keepers[ours], contents.keepers[theirs]
    if labels[first] == labels[second] and contents.has_conflict[theirs]:
        second = _of_two_classes(contents, theirs)[1]
    elif labels[first] == labels[second]:
        first = _of_two_classes(contents, ours)[1]
    return int(first), int(second)


def _likeness(contents: Contents, pair: int, first: int, second: int) -> str:
    rows = contents.rows
    names = [rows.classes[int(rows.label[p])] for p in (first, second)]
    classes = "" if names[0] == names[1] else f", {names[0]} and {names[1]}"
    return f"correlation {contents.pairs.correlation[pair]:.3f}{classes}"
