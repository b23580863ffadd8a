"""What keeping the work of a frozen prefix takes and saves: bytes and predicted seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rayft.plan.facts import DataFacts, ModelFacts, Paces, Speeds, SplitName

_READ_BYTES_PER_S = 1e9
"""Pace at which kept rows are taken to come from a disk."""
FORWARD_AND_BACKWARD = 3
"""A training step costs about three forward passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixCosts:
    """What keeping takes and gives, for one phase."""

    bytes: int
    epoch_s: float
    kept_epoch_s: float
    fill_s: float

    def pace(self, num_epochs: int) -> str:
        """Say what a phase is expected to take with and without."""
        kept = self.fill_s + num_epochs * self.kept_epoch_s
        return (
            f"{kept:,.0f} s instead of {num_epochs * self.epoch_s:,.0f} s are expected for the "
            "phase"
        )

    def pays(self, num_epochs: int) -> bool:
        """Return whether a phase is expected to be faster with what is kept."""
        return self.fill_s + num_epochs * self.kept_epoch_s < num_epochs * self.epoch_s


def prefix_costs(
    data: DataFacts,
    splits: Sequence[SplitName],
    *,
    views: int,
    row_bytes: int,
    paces: Paces,
    num_workers: int,
) -> PrefixCosts:
    """Work out the costs of one phase.

    Args:
        data: the rows.
        splits: splits whose rows are kept.
        views: views of each training row.
        row_bytes: of what is kept of one view of a row.
        paces: of one worker.
        num_workers: at least 1.
    """
    train, evaluated = data.num_rows("train"), data.num_rows("validation")
    kept = sum(map(data.num_rows, splits)) + (views - 1) * train
    trained_s = train / paces.above
    read_s = (train + evaluated) * row_bytes / _READ_BYTES_PER_S
    return PrefixCosts(
        bytes=kept * row_bytes,
        epoch_s=(trained_s + (train + evaluated) / paces.below) / num_workers,
        kept_epoch_s=max(trained_s / num_workers, read_s),
        fill_s=kept / paces.below / num_workers,
    )


def paces_at(
    cut: int, model: ModelFacts, speeds: Speeds, *, precision: Literal["fp32", "bf16"]
) -> Paces:
    """Return the paces below and above a cut, measured or by multiply-adds."""
    if cut in speeds.paces:
        return speeds.paces[cut]
    work = sum(group.flops_per_row for group in (*model.groups, *model.heads))
    measured = speeds.bf16_rows_per_s if precision == "bf16" else None
    flops_per_s = FORWARD_AND_BACKWARD * work * (measured or speeds.fp32_rows_per_s)
    below = sum(group.flops_per_row for group in model.groups[:cut])
    above = sum(group.flops_per_row for group in (*model.groups[cut:], *model.heads))
    return Paces(
        below=flops_per_s / max(1, below),
        above=flops_per_s / max(1, FORWARD_AND_BACKWARD * above),
    )
