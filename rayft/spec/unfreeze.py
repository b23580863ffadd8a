"""Thawing from the top down: how many groups at a time, and when."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rayft.spec.base import Spec
from rayft.spec.duration import DurationText

_PATTERN = re.compile(r"^\s*(?:(\d+)\s*groups?|(\d+(?:\.\d+)?)\s*%)\s*$")


@dataclass(frozen=True, slots=True)
class GroupCount:
    """A number of depth groups, or a share of those that the phase trains."""

    amount: float
    unit: Literal["groups", "percent"]


def parse_group_count(text: str) -> GroupCount:
    """Read `1 group`, `3 groups` or `25%`.

    Raises:
        ValueError: the text is none of these, or means no group.
    """
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError(
            f"expected a number of groups, got {text!r}; write '1 group', '3 groups' or '25%'"
        )
    amount = float(match[1] or match[2])
    if not amount:
        raise ValueError(f"at least one group thaws at a time, got {text!r}; use 1 or more")
    if match[2] and amount > 100:
        raise ValueError(f"a share is at most 100%, got {text!r}; use 100% or less")
    return GroupCount(amount, "groups" if match[1] else "percent")


def _check(text: str) -> str:
    parse_group_count(text)
    return text


GroupCountText = Annotated[
    str, AfterValidator(_check), Field(examples=["1 group", "3 groups", "25%"])
]
"""A number of depth groups; a share is of the backbone's groups that the phase trains."""


class UnfreezeSpec(Spec):
    """Thaw what the phase trains from the top down: first the heads, then group after group.

    The plan turns the phase into plain phases `NAME-1`, `NAME-2` and so on. In the last one all of
    `train` trains; it lasts for what the others leave of `for`.

    Source: Howard & Ruder 2018 (https://arxiv.org/abs/1801.06146), section 3.3.
    """

    by: GroupCountText = "1 group"
    """Groups of the backbone that thaw at a time; a share is of those that the phase trains."""
    every: DurationText = "1 epochs"
    """Time from one thaw to the next; a share is of the phase."""
