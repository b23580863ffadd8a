"""What a worker computes on, and how: device, precision, memory layout, threads."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rayft.feed.prepare import Batch
from rayft.plan.run_plan import RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBatch:
    """A batch on the device."""

    images: Tensor
    """[n, 3, H, W] normalised fp32."""
    labels: Tensor
    """[n] classes."""
    weights: Tensor
    """[n] 1 for rows that count, 0 for those that only fill the shape."""


class Device:
    """Moves batches to the device and sets up its arithmetic."""

    def __init__(self, plan: RunPlan, device: torch.device) -> None:
        self.device = device
        self.precision: Literal["fp32", "bf16"] = plan.precision
        channels_last = plan.spec.memory_format == "channels_last"
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        std = torch.tensor(plan.model.std, device=device)
        self._scale = (1 / (255 * std)).view(1, -1, 1, 1)
        self._shift = (-torch.tensor(plan.model.mean, device=device) / std).view(1, -1, 1, 1)
        if plan.spec.reduction.kind == "exact":
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in its memory layout."""
        return model.to(device=self.device, memory_format=self.memory_format)  # type: ignore[call-overload,no-any-return]

    def batch(self, batch: Batch) -> DeviceBatch:
        """Move a batch to the device as uint8, and normalise it there."""
        pixels = self._move(torch.from_numpy(batch.images))
        # [n, H, W, 3] seen as [n, 3, H, W] is channels_last without a copy.
        images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.memory_format)
        weights = torch.zeros(len(batch.labels), device=self.device)
        weights[: batch.ticket.num_rows] = 1
        return DeviceBatch(
            images=images.mul_(self._scale).add_(self._shift),
            labels=self._move(torch.from_numpy(batch.labels)),
            weights=weights,
        )

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the forward pass runs."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def shard_seed(seed: int, step: int, shard: int) -> int:
    """Return the seed of the random stream of one virtual shard (dropout, stochastic depth).

    The three numbers are mixed by SplitMix64 (Steele et al. 2014), so that neighbours differ in
    every bit; the result fits `torch.manual_seed`.
    """
    state = seed
    for number in (step, shard):
        state = _splitmix64(state ^ _splitmix64(number + 1))
    return state & (2**63 - 1)


def _splitmix64(value: int) -> int:
    mask = 2**64 - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)
