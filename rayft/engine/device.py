"""What a worker computes on, and how: device, precision, memory layout, threads."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rayft.engine.test_time import scores_over_views
from rayft.engine.views import DeviceViews, make_device_views
from rayft.feed.prepare import Batch, Mix
from rayft.models.model import FineTuneModel
from rayft.objectives.targets import Targets
from rayft.plan.run_plan import RunPlan
from rayft.spec.test_time import TestTimeSpec


def repeat_to_the_bit() -> None:
    """Let GPUs compute in the kernels that give the same bits each time, for this process."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


class Device:
    """Moves batches to the device and sets up its arithmetic.

    Args:
        device: where it computes.
        mean: of each channel, of values from 0 to 1.
        std: of each channel, of values from 0 to 1.
        precision: of the forward pass; what is stored stays fp32.
        memory_format: of images and weights.
        test_time: views of each row in evaluation.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        precision: Literal["fp32", "bf16"],
        memory_format: Literal["channels_last", "contiguous"],
        test_time: TestTimeSpec | None,
    ) -> None:
        self.device = device
        self._test_time = test_time
        self._views: DeviceViews | None = None
        self.precision = precision
        channels_last = memory_format == "channels_last"
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        deviation = torch.tensor(std, device=device)
        self._scale = 1 / (255 * deviation)
        self._shift = -torch.tensor(mean, device=device) / deviation

    @classmethod
    def of_run(cls, plan: RunPlan, device: torch.device) -> Self:
        """Return the device of a run, set to repeat itself to the bit where it is to be exact."""
        if plan.spec.reduction.kind == "exact":
            repeat_to_the_bit()
        made = cls(
            device,
            mean=plan.model.mean,
            std=plan.model.std,
            precision=plan.precision,
            memory_format=plan.spec.memory_format,
            test_time=plan.spec.test_time,
        )
        made._views = make_device_views(plan)
        return made

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in its memory layout."""
        return model.to(device=self.device, memory_format=self.memory_format)  # type: ignore[call-overload,no-any-return]

    def weights(self, batch: Batch) -> Tensor:
        """Return [n] 1 for the rows of a batch that count, 0 for those that only fill its shape."""
        weights = torch.zeros(len(batch.labels), device=self.device)
        weights[: batch.ticket.num_rows] = 1
        return weights

    def pixels(self, batch: Batch) -> tuple[Tensor, Mix | None]:
        """Return the images [n, H, W, C] of a batch as uint8, augmented here where asked.

        Also what was put into them, where there is a `mix:` list.
        """
        assert batch.images is not None
        pixels = self.move(torch.from_numpy(batch.images))
        if batch.pending is None:
            return pixels, batch.mix
        assert self._views is not None
        return self._views(pixels, batch.pending)

    def targets(self, labels: NDArray[np.int64], mix: Mix | None) -> Targets:
        """Return what rows with these labels [n] are to be told."""
        moved = self.move(torch.from_numpy(labels))
        if mix is None:
            return Targets(labels=moved)
        return Targets(
            labels=moved,
            partner_labels=self.move(torch.from_numpy(mix.labels)),
            shares=self.move(torch.from_numpy(mix.shares)),
        )

    def images(self, pixels: NDArray[np.uint8], *, image_size: int | None = None) -> Tensor:
        """Move images [n, H, W, C] to the device as uint8; return them normalised, [n, C, H, W].

        Args:
            pixels: the images.
            image_size: H and W of what is returned; None leaves them.
        """
        return self.normalised(self.move(torch.from_numpy(pixels)), image_size)

    def normalised(self, pixels: Tensor, image_size: int | None) -> Tensor:
        """Return uint8 images [n, H, W, C] normalised, [n, C, H, W], scaled where asked."""
        if image_size is not None and pixels.shape[1:3] != (image_size, image_size):
            pixels = _scaled(pixels, image_size)
        num_rows, height, width, channels = pixels.shape
        # Whole lines: a few channels by themselves are too short for vector instructions.
        lines = pixels.reshape(num_rows * height, width * channels).to(torch.float32)
        lines.mul_(self._scale.repeat(width)).add_(self._shift.repeat(width))
        # [n, H, W, C] seen as [n, C, H, W] is channels_last without a copy.
        images = lines.view(num_rows, height, width, channels).permute(0, 3, 1, 2)
        return images.contiguous(memory_format=self.memory_format)

    def scores(self, model: FineTuneModel, inputs: Tensor, cut: int = 0) -> dict[str, Tensor]:
        """Return the scores [n, C] of every head in evaluation.

        Args:
            model: in evaluation mode.
            inputs: normalised images, or what the lowest `cut` groups made of them.
            cut: depth groups that are done already; 0 where there are several views of each image.
        """
        with self.autocast():
            if cut:
                scores: dict[str, Tensor] = model(inputs, cut)
                return scores
            return scores_over_views(model, inputs, self._test_time)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the forward pass runs."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def move(self, tensor: Tensor) -> Tensor:
        """Return a tensor of this process on the device."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def _scaled(images: Tensor, size: int) -> Tensor:
    """Scale uint8 images [n, H, W, C] to [n, size, size, C], bilinear with antialiasing."""
    # On the CPU torch does this on bytes, ten times as fast as on floats; on a GPU only on floats.
    maps = images.permute(0, 3, 1, 2)
    if images.device.type != "cpu":
        maps = maps.float()
    scaled = F.interpolate(maps, size=(size, size), mode="bilinear", antialias=True)
    if images.device.type != "cpu":
        scaled = scaled.round_().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous()


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
