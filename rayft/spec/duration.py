"""Durations as people write them: `2 epochs`, `500 steps`, `10%`."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

_PATTERN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(%|epochs?|steps?)\s*$")


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of training: a number of epochs or steps, or a share of something."""

    amount: float
    unit: Literal["epochs", "steps", "percent"]


def parse_duration(text: str) -> Duration:
    """Read `2 epochs`, `500 steps` or `10%`.

    Raises:
        ValueError: the text is none of these, or a part of a step or an epoch.
    """
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError(
            f"expected a duration, got {text!r}; write '2 epochs', '500 steps' or '10%'"
        )
    amount, unit = float(match[1]), match[2]
    if unit == "%":
        if amount > 100:
            raise ValueError(f"a share is at most 100%, got {text!r}; use 100% or less")
        return Duration(amount, "percent")
    if amount != int(amount):
        raise ValueError(f"expected a whole number of {unit}, got {text!r}; round it")
    return Duration(amount, "epochs" if unit.startswith("epoch") else "steps")


def _check(text: str) -> str:
    parse_duration(text)
    return text


def _check_length(text: str) -> str:
    if parse_duration(text).unit == "percent":
        raise ValueError(
            f"expected a number of epochs or steps, got {text!r}; write '2 epochs' or '500 steps'"
        )
    return _check_phase_length(text)


def _check_phase_length(text: str) -> str:
    duration = parse_duration(text)
    if duration.unit == "percent" and not duration.amount:
        raise ValueError(f"a phase lasts at least one step, got {text!r}; use more than 0%")
    if duration.unit != "percent" and duration.amount < 1:
        raise ValueError(f"a phase lasts at least one step, got {text!r}; use 1 or more")
    return text


DurationText = Annotated[
    str, AfterValidator(_check), Field(examples=["2 epochs", "500 steps", "10%"])
]
"""A duration; a share is of the phase it stands in."""

LengthText = Annotated[
    str, AfterValidator(_check_length), Field(examples=["2 epochs", "500 steps"])
]
"""A duration in epochs or steps, at least one."""

PhaseLengthText = Annotated[
    str, AfterValidator(_check_phase_length), Field(examples=["2 epochs", "500 steps", "30%"])
]
"""A duration above 0; a share is of the whole run."""
