"""What a report finds: a kind of fault, how often, and where."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rayft.data.report.rows import ReportRows, RowName

FindingName = Literal[
    "unreadable",
    "wrong_type",
    "exact_duplicates",
    "conflicting_labels",
    "leaks",
    "near_duplicates",
    "suspicious_labels",
    "blank",
    "dark",
    "light",
    "blurred",
    "small_classes",
]

MAX_EXAMPLES = 1000
"""Examples of a finding that are kept, the worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of a finding."""

    row: RowName
    detail: str
    """What is wrong with it, in a few words."""
    like: RowName | None = None
    """The row that it is equal to or looks like."""
    places: tuple[int, ...] = ()
    """Places among the report's rows of the images that show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A kind of fault, whether it was found or not."""

    name: FindingName
    title: str
    rule: str
    """When a row counts, with every threshold."""
    count: int
    """Rows, or classes where it is about classes."""
    examples: tuple[Example, ...]
    """The worst first; `MAX_EXAMPLES` at most."""
    note: str = ""
    """What else there is to know about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A row that the report proposes to leave out."""

    place: int
    """Its place among the report's rows."""
    reason: str
    """Why, in two words."""
    like: int | None = None
    """The place of the row that makes it superfluous."""


def examples_of(
    rows: ReportRows, seen: Iterable[tuple[int, int | None, str]]
) -> tuple[Example, ...]:
    """Return examples of rows, given as place, place of the row that it is like, and detail."""
    found: list[Example] = []
    for place, like, detail in seen:
        if len(found) == MAX_EXAMPLES:
            break
        shown = (place,) if like is None else (place, like)
        twin = None if like is None else rows.name(like)
        found.append(Example(row=rows.name(place), detail=detail, like=twin, places=shown))
    return tuple(found)


def first_of_each(proposals: Iterable[Proposal]) -> list[Proposal]:
    """Keep the first proposal for each row, in the order of rows."""
    kept: dict[int, Proposal] = {}
    for proposal in proposals:
        kept.setdefault(proposal.place, proposal)
    return [kept[place] for place in sorted(kept)]


def share(count: int, total: int) -> str:
    """Return a share for people."""
    return f"{count / total:.1%}" if total else "0.0%"


def worst_first(values: Sequence[float], places: Sequence[int]) -> list[int]:
    """Return places by ascending value, ties in the order of places."""
    return [place for _, place in sorted(zip(values, places, strict=True))]
