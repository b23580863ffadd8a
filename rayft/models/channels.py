"""Images of other channels than the three that weights were trained with.

A filter of the first convolution has a slice for each channel; what it answers is the sum of
theirs. The rules below keep that sum for an image whose channels say the same, because batch norm
keeps the statistics that the pretrained filters gave (see `docs/adr/0021`):

* one channel gets the sum of the three slices: exactly what three equal channels give;
* two channels, of which nothing is known, get half of the sum each;
* of four and more the first three keep theirs, and each further one starts at zero: the network
  begins as the pretrained one, and training says what the new channels are good for.

`timm.models.adapt_input_conv` has the first rule too. Beyond three it repeats the slices and
scales all by 3/n, which answers to equal channels alike only where n is a multiple of 3, and takes
from what the network knows of colours.
"""

from statistics import fmean

import torch
from torch import Tensor, nn

from rayft.errors import ModelError, Problem
from rayft.spec.data import RGB


def input_layers(net: nn.Module, *, channels: int, within: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the convolutions that take images of so many channels.

    Args:
        net: the network.
        channels: those that the layers take.
        within: names of the tensors and leaf modules of the first depth group.

    Raises:
        ModelError: there is none, so the network cannot be told other channels.
    """
    found = tuple(
        name
        for name in within
        if isinstance(layer := _submodule(net, name), nn.Conv2d)
        and layer.in_channels == channels
        and layer.groups == 1
    )
    if not found and channels != RGB:
        what = f"no convolution of its first group takes images of {channels} channels"
        fix = "set data.channels to 3, or choose another backbone"
        raise ModelError(Problem("model.backbone.name", what, fix))
    return found


def _submodule(net: nn.Module, name: str) -> nn.Module | None:
    try:
        return net.get_submodule(name)
    except AttributeError:
        return None


def replace_layers(net: nn.Module, names: tuple[str, ...], *, channels: int) -> None:
    """Put convolutions of other input channels in place, with torch's own initial values."""
    for name in names:
        old = net.get_submodule(name)
        assert isinstance(old, nn.Conv2d)
        new = nn.Conv2d(
            channels,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]  # of two, as it was given
            stride=old.stride,  # type: ignore[arg-type]
            padding=old.padding,  # type: ignore[arg-type]
            dilation=old.dilation,  # type: ignore[arg-type]
            bias=old.bias is not None,
            padding_mode=old.padding_mode,
        )
        net.set_submodule(name, new)


def adapted_filters(filters: Tensor, channels: int) -> Tensor:
    """Return filters [O, C, H, W] for images of `channels` channels, by the rules above.

    From other channels than three the way leads over three: the first three where there are as
    many, else a third of the sum each.
    """
    filters = filters.float()
    had = filters.shape[1]
    if had < RGB:
        filters = (filters.sum(1, keepdim=True) / RGB).expand(-1, RGB, -1, -1)
    if channels < RGB:
        total = filters[:, :RGB].sum(1, keepdim=True)
        return (total / channels).repeat(1, channels, 1, 1)
    kept = filters[:, :channels]
    rest = torch.zeros_like(filters[:, :1]).expand(-1, channels - kept.shape[1], -1, -1)
    return torch.cat((kept, rest), dim=1)


def filters_in_words(had: int, channels: int) -> str:
    """Say how `adapted_filters` makes filters of `channels` slices from those of `had`."""
    if channels == 1:
        return "the sum of the first three" if had >= RGB else "the sum of all"
    if channels < RGB:
        return f"1/{channels} of the sum of the first three each"
    kept = "a third of the sum each" if had < RGB else f"the first {min(had, channels)} kept"
    new = channels - max(had, RGB)
    return f"{kept}, {new} new at zero" if new > 0 else kept


def per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return the mean, or deviation, of each channel from those of red, green and blue.

    The first three of several channels take these, as they take their filters; any other channel,
    and all where there are fewer, takes their average.
    """
    kept = values if channels >= RGB else ()
    return (*kept, *([fmean(values)] * (channels - len(kept))))
