"""Operations of the `augment:` list that change colours, tones and sharpness."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rayft.spec.augment_motion import check_rising
from rayft.spec.base import NonNegative, Positive, Probability, Spec


class ColorJitter(Spec):
    """Change brightness, contrast, saturation and hue by random factors, in this order."""

    kind: Literal["color_jitter"]
    brightness: NonNegative = 0.0
    """Factor drawn from 1 - b, 0 at least, to 1 + b."""
    contrast: NonNegative = 0.0
    """Factor drawn from 1 - c, 0 at least, to 1 + c, around the image's mean grey."""
    saturation: NonNegative = 0.0
    """Factor drawn from 1 - s, 0 at least, to 1 + s, around the grey image."""
    hue: float = Field(default=0.0, ge=0, le=0.5)
    """Shift drawn from -h to +h, where 1 is a full turn of the colour wheel."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            raise ValueError(
                "color_jitter has no effect with all its settings at 0; set one or remove it"
            )
        return self


class Grayscale(Spec):
    """Take the colours out: all three channels hold the brightness to the eye."""

    kind: Literal["grayscale"]
    probability: Probability = 0.1
    """Share of the rows that become grey."""


class Invert(Spec):
    """Turn each value v into 255 - v."""

    kind: Literal["invert"]
    probability: Probability = 0.5
    """Share of the rows that are changed."""


class Posterize(Spec):
    """Keep only the highest bits of each value."""

    kind: Literal["posterize"]
    bits: int = Field(ge=1, le=7)
    """Bits that stay, of 8."""
    probability: Probability = 0.5
    """Share of the rows that are changed."""


class Solarize(Spec):
    """Invert the values at and above a threshold."""

    kind: Literal["solarize"]
    threshold: int = Field(ge=0, le=255)
    """Least value that is inverted."""
    probability: Probability = 0.5
    """Share of the rows that are changed."""


class AutoContrast(Spec):
    """Stretch each channel so that its darkest value becomes 0 and its lightest 255."""

    kind: Literal["autocontrast"]
    probability: Probability = 0.5
    """Share of the rows that are changed."""


class Equalize(Spec):
    """Spread the values of each channel so that all become about equally frequent."""

    kind: Literal["equalize"]
    probability: Probability = 0.5
    """Share of the rows that are changed."""


class Sharpness(Spec):
    """Blend with a smoothed image: a factor below 1 smooths, one above 1 sharpens."""

    kind: Literal["sharpness"]
    factor: NonNegative
    """0 gives the smoothed image, 2 adds as much as smoothing takes away."""
    probability: Probability = 0.5
    """Share of the rows that are changed."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.factor == 1:
            raise ValueError("factor 1 has no effect; choose one below or above, or remove it")
        return self


class GaussianBlur(Spec):
    """Smooth with a Gaussian of random width."""

    kind: Literal["gaussian_blur"]
    kernel_size: int = Field(ge=3)
    """Height and width of the kernel in pixels, odd."""
    sigma: tuple[Positive, Positive] = (0.1, 2.0)
    """Smallest and largest standard deviation in pixels."""
    probability: Probability = 1.0
    """Share of the rows that are smoothed."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kernel_size % 2 == 0:
            size = self.kernel_size
            raise ValueError(
                f"kernel_size {size} is even and has no middle; write {size - 1} or {size + 1}"
            )
        check_rising("sigma", self.sigma)
        return self


RuleSpec = Grayscale | Invert | Posterize | Solarize | AutoContrast | Equalize | Sharpness
"""Operations in which chance decides only whether a row is changed."""
