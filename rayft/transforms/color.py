"""Changing brightness, contrast, saturation and hue, each image by its own factors.

The four follow each other in this order, each ends with a clamp to 0..255. Values are rounded after
saturation and after hue. torchvision cuts the fraction off after each of the four; one alone is
within one grey level of it, a chain within two of the exact values.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayft.transforms.blend import blend_colors
from rayft.transforms.operation import Images, Pixels, check_rgb, moved, row_blocks
from rayft.transforms.rng import Uniforms

Planes = NDArray[np.float32]
"""[3, B, pixels], red, green and blue in 0..255; changed in place."""

Plane = NDArray[np.float32]
"""[B, pixels]."""

_GREY = (np.float32(0.2989), np.float32(0.587), np.float32(0.114))
_NUM_CHANNELS = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class JitterColor:
    """Changes colours by random factors; 0 leaves that property as it is."""

    num_draws: ClassVar[int] = 4
    resizes: ClassVar[bool] = False
    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __call__(self, images: Pixels, draws: Uniforms) -> Pixels:
        """Return the images in other colours.

        Args:
            images: [B, H, W, 3], red, green, blue; or [B, H, W, 1], grey, where neither
                saturation nor hue is to change.
            draws: [B, 4], for brightness, contrast, saturation and hue.

        Returns:
            [B, H, W, C]; grey images become what a channel of their RGB would.

        Raises:
            ValueError: the images are neither.
        """
        if images.shape[3] == 1 and not (self.saturation or self.hue):
            if isinstance(images, np.ndarray):
                return self(images.repeat(_NUM_CHANNELS, axis=3), draws)[..., :1].copy()
            as_rgb = images.repeat(1, 1, 1, _NUM_CHANNELS)
            return self(as_rgb, draws)[..., :1].contiguous()
        check_rgb(images, "color_jitter")
        if self.brightness or self.contrast or self.saturation:
            images = blend_colors(images, self._factors(draws[:, :3]))
        return shift_hue(images, (2 * draws[:, 3] - 1) * self.hue) if self.hue else images

    def _factors(self, draws: Uniforms) -> NDArray[np.float64]:
        """Return factors [B, 3]; a range that would reach below 0 begins there, and stays even."""
        spread = np.array((self.brightness, self.contrast, self.saturation))
        return np.where(spread > 1, (1 + spread) * draws, 1 + (2 * draws - 1) * spread)


def shift_hue(images: Pixels, turns: NDArray[np.float64]) -> Pixels:
    """Turn the colour wheel.

    Args:
        images: [B, H, W, 3].
        turns: [B], 1 is a full turn.

    Returns:
        [B, H, W, 3].
    """
    if isinstance(images, Tensor):
        return _with_shifted_hue(images, turns)
    result = np.empty(images.shape, np.uint8)
    for rows in row_blocks(images):
        planes = _split_channels(images[rows])
        _shift_hue(planes, turns[rows, None].astype(np.float32))
        _join_channels(planes, result[rows])
    return result


def to_grey(images: Pixels) -> Pixels:
    """Give all channels the brightness to the eye, cut to whole numbers.

    As torchvision's `rgb_to_grayscale` with three channels, of which a multiplication and an
    addition may be one rounding: then one level of a rare pixel differs.

    Args:
        images: [B, H, W, 3].

    Returns:
        [B, H, W, 3].

    Raises:
        ValueError: the images are not RGB.
    """
    check_rgb(images, "grayscale")
    if isinstance(images, Tensor):
        red, green, blue = images.float().unbind(3)
        weights = [float(weight) for weight in _GREY]
        brightness = red * weights[0] + green * weights[1] + blue * weights[2]
        return brightness.to(torch.uint8)[..., None].expand_as(images).contiguous()
    result = np.empty(images.shape, np.uint8)
    for rows in row_blocks(images):
        grey = _grey(_split_channels(images[rows]))
        result[rows] = grey.reshape(-1, *images.shape[1:3], 1)
    return result


def _split_channels(images: Images) -> Planes:
    planes = np.empty((_NUM_CHANNELS, len(images), images[0].size // _NUM_CHANNELS), np.float32)
    for channel, plane in enumerate(planes):
        plane.reshape(images.shape[:3])[...] = images[..., channel]
    return planes


def _join_channels(planes: Planes, result: Images) -> None:
    values = np.rint(planes, out=planes).astype(np.uint8)
    for channel, plane in enumerate(values):
        result[..., channel] = plane.reshape(result.shape[:3])


def _grey(planes: Planes) -> Plane:
    """Return the brightness to the eye, in whole numbers."""
    red, green, blue = planes
    grey: Plane = red * _GREY[0]
    grey += green * _GREY[1]
    grey += blue * _GREY[2]
    np.floor(grey, out=grey)
    return grey


def _shift_hue(planes: Planes, turns: NDArray[np.float32]) -> None:
    """Turn the colour wheel. Lightest and darkest channel keep their values.

    Source:
        Hexagon model of Smith 1978, "Color gamut transform pairs",
        https://doi.org/10.1145/965139.807361
    """
    darkest, lightest = planes.min(axis=0), planes.max(axis=0)
    chroma = lightest - darkest
    hue = _hue(planes, lightest, chroma)
    hue += 6 * turns
    hue -= 6 * np.floor(hue * np.float32(1 / 6))
    for plane, centre in zip(planes, (3, 2, 4), strict=True):
        np.abs(np.subtract(hue, centre, out=plane), out=plane)
    planes[0] -= 1
    np.subtract(2, planes[1:], out=planes[1:])
    np.clip(planes, 0, 1, out=planes)
    planes *= chroma
    planes += darkest


def _hue(planes: Planes, lightest: Plane, chroma: Plane) -> Plane:
    """Return the place on the colour wheel, -1 to 5: red is 0, green 2, blue 4, as is grey."""
    red, green, blue = planes
    hue: Plane = red - green
    hue += 4 * chroma
    _replace(hue, lightest == green, blue - red + 2 * chroma)
    _replace(hue, lightest == red, green - blue)
    hue /= chroma + (chroma == 0)
    return hue


def _replace(plane: Plane, where: NDArray[np.bool_], new: Plane) -> None:
    """Put `new` where `where` says; arithmetic takes a tenth of the time of `np.where`."""
    new -= plane
    new *= where
    plane += new


def _with_shifted_hue(images: Tensor, turns: NDArray[np.float64]) -> Tensor:
    """Do what `_shift_hue` does."""
    red, green, blue = images.float().unbind(3)
    lightest = torch.maximum(torch.maximum(red, green), blue)
    darkest = torch.minimum(torch.minimum(red, green), blue)
    chroma = lightest - darkest
    hue = red - green + 4 * chroma
    hue = torch.where(lightest == green, blue - red + 2 * chroma, hue)
    hue = torch.where(lightest == red, green - blue, hue)
    hue = hue / (chroma + (chroma == 0))
    hue = hue + 6 * moved(turns.astype(np.float32), images)[:, None, None]
    hue = hue - 6 * (hue * float(np.float32(1 / 6))).floor()
    shares = ((hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs())
    planes = [share.clamp(0, 1) * chroma + darkest for share in shares]
    return torch.stack(planes, dim=3).round().to(torch.uint8)
