"""The frozen prefix of a phase on a worker: run on images, or read as the rows it was kept as."""

import math
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.engine.device import Device
from rayft.errors import Problem, RayftError
from rayft.models.backbone import Backbone
from rayft.models.prefix import run_prefix
from rayft.plan.prefix import PrefixCut, PrefixPlan

_FP16_OVERFLOWS = 65_520.0
"""What is below is rounded to 65,504 at most, the largest number of fp16."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def row_shape(
    plan: PrefixPlan, backbone: Backbone, memory_format: Literal["channels_last", "contiguous"]
) -> tuple[int, ...]:
    """Return the shape of a kept row: that of its numbers in memory."""
    if memory_format == "channels_last" and _makes_maps(plan, backbone):
        channels, height, width = plan.shape
        return height, width, channels
    return plan.shape


def _makes_maps(plan: PrefixPlan | PrefixCut, backbone: Backbone) -> bool:
    return len(plan.shape) == 3 and backbone.layout.channel_axis == 1


def _check_range(made: Tensor) -> None:
    """Refuse to round to infinity: what is trained on such features is worth nothing."""
    low, high = torch.aminmax(made)
    peak = float(torch.maximum(-low, high))
    if _FP16_OVERFLOWS <= peak < math.inf:
        what = f"what the frozen layers make reaches {peak:,.0f}, and fp16 ends at 65,504"
        raise RayftError(Problem("cache.dtype", what, "use bf16, which reaches as far as fp32"))


@final
class FrozenPrefix:
    """Turns images, or kept rows, into the input of what lies above the cut, the same bits.

    Args:
        backbone: the network; its lowest groups are in evaluation mode whenever this is used.
        plan: where it is cut.
        device: where it computes.
    """

    def __init__(self, backbone: Backbone, plan: PrefixPlan | PrefixCut, device: Device) -> None:
        self._backbone = backbone
        self._plan = plan
        self._device = device
        last = device.memory_format == torch.channels_last
        self._channels_last = last and _makes_maps(plan, backbone)
        self._dtype = _DTYPES[plan.dtype]
        self._computed = torch.bfloat16 if device.precision == "bf16" else torch.float32

    @torch.no_grad()
    def of_images(self, images: Tensor) -> Tensor:
        """Return what the prefix makes of normalised images [n, C, H, W], rounded as it is kept.

        Raises:
            RayftError: fp16 cannot hold it.
        """
        with self._device.autocast():
            made = run_prefix(self._backbone, images, cut=self._plan.cut, rows=self._plan.rows)
        if self._dtype == torch.float16:
            _check_range(made)
        made = made.to(self._dtype).to(self._computed)
        channels_last = torch.channels_last if self._channels_last else torch.contiguous_format
        return made.contiguous(memory_format=channels_last)

    def to_rows(self, made: Tensor) -> NDArray[np.generic]:
        """Return what `of_images` gave as rows to keep.

        Returns:
            [n, ...] float32, float16, or uint16 with the bits of bf16; channels come last where
            they do so in memory.
        """
        values = made.permute(0, 2, 3, 1) if self._channels_last else made
        values = values.to(self._dtype).contiguous().cpu()
        rows: NDArray[np.generic] = (
            values.view(torch.uint16) if self._dtype == torch.bfloat16 else values
        ).numpy()
        return rows

    def of_rows(self, rows: NDArray[np.generic]) -> Tensor:
        """Return what `of_images` gave for rows that `to_rows` returned."""
        values = torch.from_numpy(rows)
        values = values.view(self._dtype) if self._dtype == torch.bfloat16 else values
        # A copy, even on the same device: numpy's arrays begin anywhere, and last bits of matrix
        # products depend on how their operands are aligned.
        moved = self._device.move(values).to(self._computed, copy=True)
        return moved.permute(0, 3, 1, 2) if self._channels_last else moved
