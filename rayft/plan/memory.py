"""Estimated memory of a worker: an estimate in the open is better than a surprise at step 1."""

from dataclasses import dataclass

from rayft.plan.facts import GroupFacts, ModelFacts
from rayft.plan.ledger import Ledger

_BYTES = 4
_PROCESS_BYTES = 700 * 2**20
"""Resident size of a worker with torch and Ray loaded and no model (measured: 0.6-0.7 GiB)."""
_LIVE_SHARE_OF_FROZEN = 0.35
"""A frozen group keeps no activations for backward; its widest layers are alive for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes one worker needs in the phase that needs most."""

    fixed: int
    """Weights, gradients, optimizer state and averages; on the CPU also the process itself."""
    per_row: int
    """Activations of one row."""

    def total(self, rows: int) -> int:
        """Return the bytes at `rows` rows held at once."""
        return self.fixed + rows * self.per_row

    def beside(self, row_bytes: int) -> "MemoryEstimate":
        """Return the estimate with `row_bytes` more for each row."""
        return MemoryEstimate(fixed=self.fixed, per_row=self.per_row + row_bytes)

    def rows_within(self, budget_bytes: int) -> int:
        """Return how many rows fit into `budget_bytes`; 0 where not even one does."""
        return max(0, (budget_bytes - self.fixed) // max(1, self.per_row))


def estimate_memory(
    facts: ModelFacts,
    ledger: Ledger,
    *,
    image_size: int,
    state_tensors: int,
    activation_bytes: int,
    on_cpu: bool,
) -> MemoryEstimate:
    """Estimate a worker's memory in one phase.

    Args:
        facts: the model.
        ledger: what trains.
        image_size: height and width in pixels that it trains at.
        state_tensors: tensors of a parameter's size kept for each trained parameter beside its
            gradient (2 for AdamW, 1 for SGD with momentum, one more for EMA).
        activation_bytes: bytes of one activation, 4 for fp32, 2 for bf16.
        on_cpu: whether the process itself shares the memory with the tensors.
    """
    weights = ledger.trainable_params + ledger.frozen_params
    tensors = weights + ledger.trainable_params * (1 + state_tensors)
    fixed = tensors * _BYTES + (_PROCESS_BYTES if on_cpu else 0)
    # Activations of `facts` are those at its own size; maps grow with the number of pixels.
    pixels = image_size**2 / facts.image_size**2
    per_row = int(_activations_per_row(facts, ledger, activation_bytes) * pixels)
    images = facts.channels * (facts.image_size**2 + image_size**2 * _BYTES)
    return MemoryEstimate(fixed=fixed, per_row=per_row + images)


def _activations_per_row(facts: ModelFacts, ledger: Ledger, activation_bytes: int) -> int:
    kept, frozen = 0, 0
    backward_reaches = False
    for name, group in _groups(facts):
        backward_reaches = backward_reaches or ledger.trains(name)
        if backward_reaches:
            kept += group.activation_bytes_per_row
        else:
            frozen = max(frozen, group.activation_bytes_per_row)
    live = kept + int(frozen * _LIVE_SHARE_OF_FROZEN)
    return live * activation_bytes // _BYTES


def _groups(facts: ModelFacts) -> list[tuple[str, GroupFacts]]:
    backbone = [(group.name, group) for group in facts.groups]
    return backbone + [(f"heads.{head.name}", head) for head in facts.heads]
