"""What becomes of the values of an image whose brightness, contrast and saturation change.

A few numbers for each image. They depend on its mean grey, which is known only where pixels are:
so the same lines compute with arrays and with tensors on a device, which need not wait for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PerRow = NDArray[np.float64]
"""[n]."""

Numbers = TypeVar("Numbers", NDArray[np.float64], Tensor)
"""float64, of numpy or of torch."""

WHITE = 255.0
GREY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Of red, green and blue in the brightness to the eye, as torchvision has them."""

_CUT_OFF = 0.5
"""torchvision cuts greys to whole numbers; on average that takes half a level away."""

_SMALLEST_SCALE = 1e-6
_BITS = 24
_BITS_BELOW_ONE = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ColorMaps(Generic[Numbers]):
    """What becomes of the values of each image, in this order; all but `shift` fit float32."""

    low: Numbers
    """[n], what values are clamped to at first."""
    high: Numbers
    start: Numbers
    """[n], then subtracted."""
    matrices: Numbers
    """[n, 3, 3], then applied: from a pixel's channels (first axis) to new ones."""
    shift: Numbers
    """[n], then added; with the half that makes cutting off a rounding."""


def color_maps(
    factors: NDArray[np.float64],
    mean_grey: Callable[[PerRow, PerRow], Numbers],
    *,
    place: Callable[[NDArray[np.float64]], Numbers],
) -> ColorMaps[Numbers]:
    """Return what becomes of the values of each image.

    Args:
        factors: [n, 3] of brightness, contrast and saturation, at least 0.
        mean_grey: gives the images' mean brightness to the eye [n] after values were clamped at the
            first argument [n]; the second [n] says of which unit's inverse that is a multiple.
        place: brings numbers [n, ...] to where those of `mean_grey` are.
    """
    brightness, contrast, saturation = factors.T
    scale = brightness * contrast
    # An error of a threshold of 1 / steps / 2 grows by this factor.
    steepness = scale * (saturation + np.abs(1 - saturation))
    unit_steps = 2.0 ** np.maximum(_BITS_BELOW_ONE, np.frexp(steepness)[1] + 1)
    first_white = _on_grid(WHITE / np.maximum(brightness, _SMALLEST_SCALE), unit_steps)
    exact = scale[:, None, None] * _saturating(saturation)
    divisor, steps = place(np.maximum(scale, _SMALLEST_SCALE)), place(unit_steps)
    white = place(first_white)
    shift = place(np.zeros_like(scale))
    if (contrast != 1).any():
        grey = place(brightness) * mean_grey(first_white, unit_steps) - _CUT_OFF
        shift = grey.clip(min=0) * place(1 - contrast)
    low = _on_grid(-shift / divisor, steps)
    high = _on_grid((WHITE - shift) / divisor, steps).clip(max=white)
    # Where no threshold has a fraction, no value has one, and the matrix can have more bits.
    whole = (low % 1 == 0) & (high % 1 == 0)
    steps = steps + whole * (1 - steps)
    # A steep map would need many bits for values far from 0.
    start = low * place((scale > 2).astype(np.float64))
    shift = shift * place(saturation + (1 - saturation) * sum(GREY_WEIGHTS))
    shift = shift + place(exact[:, :, 0].sum(axis=1)) * start
    # A half to round, and for grey -_CUT_OFF * (1 - saturation).
    shift = shift + place(_CUT_OFF * saturation)
    # A little more than the sum of the products' sizes, for what rounding may add to it.
    most = place(np.abs(exact).sum(axis=1).max(axis=1))
    sums = (1.01 * (high - start) * most).clip(min=1)
    units = (place(np.full(len(scale), 2.0**_BITS)) / (_power_above(sums) * steps))[:, None, None]
    matrices = (place(exact) * units).round() / units
    return ColorMaps(low=low, high=high, start=start, matrices=matrices, shift=shift)


def _on_grid(thresholds: Numbers, steps: Numbers) -> Numbers:
    """Round thresholds to multiples of 1 / `steps` within 0..255."""
    return (thresholds.clip(min=0, max=WHITE) * steps).round() / steps


def _power_above(values: Numbers) -> Numbers:
    """Return the least power of two above each value; values are above 0."""
    if isinstance(values, Tensor):
        return values / torch.frexp(values).mantissa
    return values / np.frexp(values)[0]


def _saturating(saturation: PerRow) -> NDArray[np.float64]:
    """Return the matrices [n, 3, 3] of a change of saturation; each column makes a new channel."""
    of_grey = np.array(GREY_WEIGHTS)[:, None] * (1 - saturation)[:, None, None]
    matrices: NDArray[np.float64] = of_grey + saturation[:, None, None] * np.eye(3)
    return matrices
