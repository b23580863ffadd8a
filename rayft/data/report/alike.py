"""Findings about rows that are equal or look alike: duplicates, leaks, labels that disagree."""

from collections.abc import Iterator, Mapping

import numpy as np

from rayft.data.report.contents import Contents
from rayft.data.report.finding import Finding, Proposal, examples_of, share
from rayft.data.report.near import LEAST_CORRELATION, RADIUS, Pairs
from rayft.data.report.rows import SPLITS

_TRAIN, _VALIDATION, _TEST = (SPLITS.index(name) for name in ("train", "validation", "test"))
_LEAKS = ((_TEST, _TRAIN), (_TEST, _VALIDATION), (_VALIDATION, _TRAIN))
"""Split that measures, and split that it must share no picture with."""
_KEPT_FIRST = (_TEST, _VALIDATION, _TRAIN)

MOST_NEAR_LEAKS = 0.1
"""Share of rows above which look-alikes across splits are the nature of the pictures (digits, scans
of one organ), not copies; none of them is then proposed to be left out."""

ALIKE = (
    f"their perceptual hashes differ in at most {RADIUS} of 64 bits and their 16x16 grey "
    f"thumbnails correlate by at least {LEAST_CORRELATION}"
)


def alike_findings(contents: Contents) -> list[Finding]:
    """Return what is found about rows that are equal or look alike."""
    return [
        _exact_duplicates(contents),
        _conflicting_labels(contents),
        _leaks(contents),
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
    near = _near_leaks(contents)
    if not _are_alike_by_nature(near, contents):
        for place, twin in near.items():
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


def _both_ways(pairs: Pairs) -> Iterator[tuple[int, int, float]]:
    """Give every pair of contents in both directions with its correlation, the most alike first."""
    both = pairs.first.tolist(), pairs.second.tolist(), pairs.correlation.tolist()
    for first, second, alike in zip(*both, strict=True):
        yield first, second, alike
        yield second, first, alike


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


def _leaks(contents: Contents) -> Finding:
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
        note="; ".join([*notes, *_cut_short(contents)]),
    )


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
        note="; ".join(_cut_short(contents)),
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
        note="; ".join(_cut_short(contents)),
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


def _cut_short(contents: Contents) -> list[str]:
    return [] if contents.pairs.complete else ["the search was cut short: there are more"]
