"""What the rows of a batch should come out as."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The labels of some rows; those that were put together from two have two each."""

    labels: Tensor
    """[n] classes."""
    partner_labels: Tensor | None = None
    """[n] classes of the other rows."""
    shares: Tensor | None = None
    """[n] how much of a row is its own, in 0..1; given where `partner_labels` are."""
