"""From raw labels to class names and integers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import final

import numpy as np
import numpy.typing as npt

from rayft.errors import Problem

NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedLabels:
    """The labels of a source as integers."""

    classes: tuple[str, ...]
    """Label names in their order: by number where all are integers, else by text."""
    codes: npt.NDArray[np.int32]
    """[N] places in `classes`; -1 where a row has no label."""


def code_labels(labels: Sequence[str | None]) -> CodedLabels:
    """Give every label name its place in the sorted names; None stays out."""
    coder = LabelCoder()
    place = {label: coder.number(label) for label in set(labels)}
    numbers = np.fromiter((place[label] for label in labels), dtype=np.int32, count=len(labels))
    return coder.coded(numbers)


@final
class LabelCoder:
    """Numbers label names as they come, from any thread, so that no label is held as text."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._lock = Lock()

    def number(self, name: str | None) -> int:
        """Return the number of a name; -1 for None."""
        if name is None:
            return -1
        with self._lock:
            return self._numbers.setdefault(name, len(self._numbers))

    def coded(self, numbers: npt.NDArray[np.int32]) -> CodedLabels:
        """Return labels that were numbered here, with the names in their order.

        Args:
            numbers: [N] what `number` gave; -1 where a row has no label.
        """
        classes = sort_names(self._numbers)
        place = np.full(len(classes) + 1, -1, dtype=np.int32)
        for index, name in enumerate(classes):
            place[self._numbers[name]] = index
        return CodedLabels(classes=classes, codes=place[numbers])


def sort_names(names: Iterable[str]) -> tuple[str, ...]:
    """Sort label names as a person would: 2 before 10, `bird` before `cat`."""
    texts = sorted(names)
    if all(_is_integer(text) for text in texts):
        return tuple(sorted(texts, key=int))
    return tuple(texts)


def label_problems(
    labels: CodedLabels, *, where: str, source_of: Callable[[int], str]
) -> list[Problem]:
    """Return what is wrong with the labels of a source.

    Args:
        labels: the labels.
        where: the source, as messages name it.
        source_of: says where a row comes from.
    """
    problems = []
    missing = np.flatnonzero(labels.codes < 0)
    if len(missing):
        rows = [source_of(row) for row in missing[:NAMES_SHOWN].tolist()]
        problems.append(
            Problem(
                where,
                f"{len(missing)} rows have no label: {capped(rows, total=len(missing))}",
                "give these rows a label, or remove them",
            )
        )
    problems.extend(_twin_problems(labels.classes, where=where))
    return problems


def capped(names: Sequence[str], *, total: int | None = None) -> str:
    """List the first few of `names`, and say how many there are beyond them."""
    shown = names[:NAMES_SHOWN]
    rest = (len(names) if total is None else total) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _twin_problems(classes: Sequence[str], *, where: str) -> list[Problem]:
    first_with: dict[str, str] = {}
    problems = []
    for name in classes:
        plain = name.strip()
        twin = first_with.setdefault(str(int(plain)) if _is_integer(plain) else plain, name)
        if twin != name:
            problems.append(
                Problem(
                    where,
                    f"the labels {twin!r} and {name!r} differ only in spaces or leading zeros",
                    "write them alike, if they are one class; else rename one of them",
                )
            )
    return problems[:NAMES_SHOWN]


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit()
