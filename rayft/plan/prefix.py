"""The frozen prefix of a phase: what lies below the lowest group that trains.

It answers the same to the same view of a row in every epoch. So it need not run again: what it
makes of each row can be kept at the cut.
"""

from dataclasses import dataclass
from typing import Literal

from rayft.plan.facts import SplitName
from rayft.plan.ledger import Ledger

_MOST_ROWS = {"cpu": 32, "mps": 64, "cuda": 64}
"""Rows that the prefix runs on at once: few enough for most runs to agree on them, and then to
share what they keep."""

Dtype = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixCut:
    """Where a frozen prefix ends and what passes there: all that must be known to run it."""

    cut: int
    """As in `PrefixPlan`."""
    rows: int
    """As in `PrefixPlan`."""
    dtype: Dtype
    """As in `PrefixPlan`."""
    shape: tuple[int, ...]
    """As in `PrefixPlan`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixPlan:
    """The frozen prefix of one phase."""

    cut: int
    """Depth groups below the cut, counted from the input."""
    name: str
    """The last of them."""
    is_whole: bool
    """Whether it is the whole backbone, so that features are what it makes."""
    rows: int
    """Rows of every batch that runs through it; the last is filled up. The last bits of what it
    makes depend on their number. 0 where the network cannot be cut here."""
    keeps: bool
    """Whether what it makes is kept, instead of made again in every epoch."""
    can_keep: bool
    """Whether nothing stands against keeping it but the time that this takes."""
    reason: str
    views: int | None
    """Random views of each row that epochs take in turn, kept or not; None where each epoch has new
    ones, or images are not changed at random."""
    dtype: Dtype
    """Numbers that are kept."""
    shape: tuple[int, ...]
    """Of what it makes of one row."""
    splits: tuple[SplitName, ...]
    """Splits whose rows are kept: those of a phase, and of the last one also the test split, whose
    figures come from any checkpoint."""
    bytes: int
    """What is kept takes in all."""
    epoch_s: float
    """Predicted seconds of an epoch in which it runs."""
    kept_epoch_s: float
    """Predicted seconds of an epoch on what is kept."""
    fill_s: float
    """Predicted seconds to make what is kept, as far as it is not known to be there."""


def frozen_groups(ledger: Ledger, num_groups: int) -> int:
    """Return how many depth groups, from the input, do not train."""
    trains = [rule.trains for rule in ledger.groups[:num_groups]]
    return trains.index(True) if True in trains else num_groups


def prefix_rows(rows_per_shard: int, device: Literal["cpu", "mps", "cuda"]) -> int:
    """Return the rows that a prefix runs on at once: where it can, a divisor of a full shard."""
    most = _MOST_ROWS[device]
    if rows_per_shard <= most:
        return rows_per_shard
    divisor = next(rows for rows in range(most, 0, -1) if rows_per_shard % rows == 0)
    return divisor if 2 * divisor >= most else most
