"""A batch on its way to the device: images normalised, the frozen prefix run or read."""

from dataclasses import dataclass

from torch import Tensor

from rayft.engine.device import Device
from rayft.engine.prefix import FrozenPrefix
from rayft.feed.prepare import Batch
from rayft.models.backbone import Backbone
from rayft.objectives.targets import Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBatch:
    """A batch on the device."""

    inputs: Tensor
    """[n, C, H, W] images, normalised fp32; or what the lowest groups made of them."""
    cut: int
    """Depth groups that are done already."""
    targets: Targets
    weights: Tensor
    """[n] 1 for rows that count, 0 for those that only fill the shape."""


def place(
    batch: Batch, *, device: Device, backbone: Backbone, image_size: int | None = None
) -> DeviceBatch:
    """Bring a batch to the device, through the frozen prefix where it has one.

    Args:
        batch: n rows.
        device: where to.
        backbone: the network, its frozen groups in evaluation mode.
        image_size: height and width in pixels that images are scaled to; None leaves them.
    """
    prefix = FrozenPrefix(backbone, batch.prefix, device) if batch.prefix else None
    mix = batch.mix
    if batch.kept is not None:
        assert prefix is not None, "kept rows are what a prefix made"
        inputs = prefix.of_rows(batch.kept)
    else:
        pixels, mix = device.pixels(batch)
        inputs = device.normalised(pixels, image_size)
        inputs = prefix.of_images(inputs) if prefix else inputs
    return DeviceBatch(
        inputs=inputs,
        cut=batch.prefix.cut if batch.prefix else 0,
        targets=device.targets(batch.labels, mix),
        weights=device.weights(batch),
    )
