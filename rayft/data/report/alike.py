"""Findings about rows that are equal or look alike: duplicates, leaks, labels that disagree."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from rayft.data.report.contents import Contents
from rayft.data.report.finding import Finding, Proposal, examples_of, share
from rayft.data.report.near import LEAST_CORRELATION, RADIUS
from rayft.data.report.rows import SPLITS, Ids

_TRAIN, _VALIDATION, _TEST = (SPLITS.index(name) for name in ("train", "validation", "test"))
_LEAKS = ((_TEST, _TRAIN), (_TEST, _VALIDATION), (_VALIDATION, _TRAIN))
"""Split that measures, and split that it must share no picture with."""

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
        members = contents.members(content)
        for place in members:
            other = next(p for p in members if rows.label[p] != rows.label[place])
            yield Proposal(place=place, reason="conflicting labels", like=other)
    for place, keeper in _copies(contents):
        leaks = rows.split[place] != rows.split[keeper]
        reason = "exact leak" if leaks else "exact duplicate"
        yield Proposal(place=place, reason=reason, like=keeper)
    near = _near_leaks(contents)
    if not _are_alike_by_nature(near, contents):
        for place, twin in near.items():
            yield Proposal(place=place, reason="near leak", like=twin)


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
    pairs, rows = contents.pairs, contents.rows
    leaks: dict[int, int] = {}
    both = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    for first, second in both:
        for ours, theirs in ((first, second), (second, first)):
            found = [(p, rows.split[p]) for p in contents.members(theirs)]
            for place in contents.members(ours):
                wanted = {m for m, learns in _LEAKS if learns == rows.split[place]}
                twin = next((p for p, split in found if split in wanted), None)
                if twin is not None:
                    leaks.setdefault(place, twin)
    return leaks


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
    conflicts = np.flatnonzero(contents.has_conflict).tolist()
    members = [contents.members(content) for content in conflicts]
    seen = []
    for places in members:
        first = places[0]
        other = next(p for p in places if rows.label[p] != rows.label[first])
        ours, theirs = (rows.classes[int(rows.label[p])] for p in (first, other))
        seen.append((first, other, f"equal bytes, {ours} and {theirs}"))
    return Finding(
        name="conflicting_labels",
        title="equal rows of different classes",
        rule="Rows with equal bytes that have different classes.",
        count=sum(map(len, members)),
        examples=examples_of(rows, seen),
    )


def _leaks(contents: Contents) -> Finding:
    twins = _twins_across(contents)
    rows = contents.rows
    notes = []
    for measures, learns in _LEAKS:
        total = int((rows.split == measures).sum())
        count = sum(1 for place, other in twins if other == (measures, learns))
        if count:
            name, other_name = SPLITS[measures], SPLITS[learns]
            notes.append(
                f"{count:,} of {total:,} {name} rows ({share(count, total)}) are in {other_name}"
            )
    if _are_alike_by_nature(_near_leaks(contents), contents):
        notes.append("so many that the pictures are alike by nature: look-alikes are not proposed")
    seen = {place: (place, twin, detail) for (place, _), (twin, detail) in twins.items()}
    return Finding(
        name="leaks",
        title="leaks between splits",
        rule="Rows of test or validation that are equal to a row of a split that training sees, "
        f"or look like one: {ALIKE}.",
        count=len(seen),
        examples=examples_of(rows, seen.values()),
        note="; ".join(notes),
    )


def _twins_across(contents: Contents) -> dict[tuple[int, tuple[int, int]], tuple[int, str]]:
    """Return for each measuring row, and kind of leak, its most alike twin and how alike it is."""
    rows, pairs = contents.rows, contents.pairs
    found: dict[tuple[int, tuple[int, int]], tuple[int, str]] = {}

    def meet(ours: list[int], theirs: list[int], detail: str) -> None:
        for leak in _LEAKS:
            twin = next((p for p in theirs if rows.split[p] == leak[1]), None)
            if twin is not None:
                for place in ours:
                    if rows.split[place] == leak[0]:
                        found.setdefault((place, leak), (twin, detail))

    shared = np.flatnonzero(np.bitwise_count(contents.splits) > 1)
    for content in shared.tolist():
        meet(contents.members(content), contents.members(content), "equal bytes")
    for first, second, alike in zip(
        pairs.first.tolist(), pairs.second.tolist(), pairs.correlation.tolist(), strict=True
    ):
        ours, theirs = contents.members(first), contents.members(second)
        meet(ours, theirs, f"correlation {alike:.3f}")
        meet(theirs, ours, f"correlation {alike:.3f}")
    return found


def _near_duplicates(contents: Contents) -> Finding:
    pairs = contents.pairs
    same = (contents.splits[pairs.first] & contents.splits[pairs.second]) != 0
    chosen = np.flatnonzero(same)
    cut_short = "" if pairs.complete else "the search was cut short: there are more"
    return _pairs_finding(
        contents,
        chosen,
        Finding(
            name="near_duplicates",
            title="near duplicates in a split",
            rule="Rows that look like another row of their split, and are not equal to it: "
            f"{ALIKE}. Mirrored or much cropped copies are not found.",
            count=0,
            examples=(),
            note=cut_short,
        ),
    )


def _suspicious_labels(contents: Contents) -> Finding:
    pairs, labels = contents.pairs, contents.rows.label[contents.keepers]
    chosen = np.flatnonzero(labels[pairs.first] != labels[pairs.second])
    return _pairs_finding(
        contents,
        chosen,
        Finding(
            name="suspicious_labels",
            title="look alike, of different classes",
            rule=f"Rows that look like a row of another class: {ALIKE}.",
            count=0,
            examples=(),
        ),
    )


def _pairs_finding(contents: Contents, chosen: Ids, blank: Finding) -> Finding:
    """Fill in a finding about pairs of contents: each row once, by its most alike pair."""
    pairs, rows, keepers = contents.pairs, contents.rows, contents.keepers
    first, second = keepers[pairs.first[chosen]], keepers[pairs.second[chosen]]
    seen = []
    for ours, theirs, alike in zip(
        first.tolist(), second.tolist(), pairs.correlation[chosen].tolist(), strict=True
    ):
        names = [rows.classes[int(rows.label[p])] for p in (ours, theirs)]
        classes = "" if names[0] == names[1] else f", {names[0]} and {names[1]}"
        seen.append((ours, theirs, f"correlation {alike:.3f}{classes}"))
    count = len(np.unique(np.concatenate([first, second])))
    return replace(blank, count=count, examples=examples_of(rows, seen))
