"""The `augment:` list: random changes to training images, applied in the order given."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.base import NonNegative, Positive, Probability, Spec

Angle = Annotated[float, Field(ge=0, le=180)]
ShearAngle = Annotated[float, Field(ge=0, lt=90)]
Interpolation = Literal["nearest", "bilinear"]


class HorizontalFlip(Spec):
    """Mirror left and right."""

    kind: Literal["horizontal_flip"]
    probability: Probability = 0.5
    """Share of the rows that are mirrored."""


class VerticalFlip(Spec):
    """Mirror top and bottom."""

    kind: Literal["vertical_flip"]
    probability: Probability = 0.5
    """Share of the rows that are mirrored."""


class RandomCrop(Spec):
    """Pad every side, then cut the original size at a random place."""

    kind: Literal["random_crop"]
    padding: int = Field(ge=1)
    """Pixels added on each side before cutting."""
    padding_mode: Literal["constant", "reflect"] = "constant"
    """Pad with black, or with the mirrored border."""


class RandomResizedCrop(Spec):
    """Cut a random part of the stored image and resize it to `image_size`.

    Source: Szegedy et al. 2015 (https://arxiv.org/abs/1409.4842), section 6.
    """

    kind: Literal["random_resized_crop"]
    scale: tuple[Positive, Positive] = (0.35, 1.0)
    """Smallest and largest share of the image's area."""
    ratio: tuple[Positive, Positive] = (0.75, 4 / 3)
    """Smallest and largest width over height."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_share(self.scale)
        _check_rising("ratio", self.ratio)
        return self


class Rotation(Spec):
    """Turn by a random angle, bilinear, corners black."""

    kind: Literal["rotation"]
    degrees: float = Field(gt=0, le=180)
    """Largest angle, in either direction."""


class Affine(Spec):
    """Turn, shift, scale and shear about the middle, in one step; what is uncovered is black."""

    kind: Literal["affine"]
    degrees: Angle = 0.0
    """Largest angle, in either direction."""
    translate: tuple[Probability, Probability] = (0.0, 0.0)
    """Largest shift along x and y, in either direction, as a share of width and height."""
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Smallest and largest factor."""
    shear: tuple[ShearAngle, ShearAngle] = (0.0, 0.0)
    """Largest angle of shear along x and y in degrees, in either direction."""
    interpolation: Interpolation = "nearest"
    """Take the nearest pixel, or mix the nearest four."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        _check_rising("scale", self.scale)
        moves = self.degrees or any(self.translate) or any(self.shear) or self.scale != (1.0, 1.0)
        if not moves:
            raise ValueError(
                "affine has no effect with all its settings at their defaults; set one of degrees, "
                "translate, scale and shear, or remove it"
            )
        return self


class Perspective(Spec):
    """Move the four corners inwards at random; what is uncovered is black."""

    kind: Literal["perspective"]
    distortion_scale: float = Field(default=0.5, gt=0, le=1)
    """How far a corner moves at most: a share of the way to the middle."""
    probability: Probability = 0.5
    """Share of the rows that are changed."""
    interpolation: Interpolation = "bilinear"
    """Take the nearest pixel, or mix the nearest four."""


class ColorJitter(Spec):
    """Change brightness, contrast, saturation and hue by random factors, in this order."""

    kind: Literal["color_jitter"]
    brightness: NonNegative = 0.0
    """Factor drawn from 1 - b to 1 + b."""
    contrast: NonNegative = 0.0
    """Factor drawn from 1 - c to 1 + c, around the image's mean grey."""
    saturation: NonNegative = 0.0
    """Factor drawn from 1 - s to 1 + s, around the grey image."""
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
        _check_rising("sigma", self.sigma)
        return self


class RandomErasing(Spec):
    """Paint a random box over.

    Source: Zhong et al. 2020 (https://arxiv.org/abs/1708.04896).
    """

    kind: Literal["random_erasing"]
    probability: Probability = 0.5
    """Share of the rows that lose a box."""
    scale: tuple[Positive, Positive] = (0.02, 0.33)
    """Smallest and largest share of the image's area."""
    ratio: tuple[Positive, Positive] = (0.3, 3.3)
    """Smallest and largest height over width."""
    value: Annotated[int, Field(ge=0, le=255)] | Literal["random"] = 0
    """What the box is filled with: a value of all channels from 0 (black) to 255, or noise."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_share(self.scale)
        _check_rising("ratio", self.ratio)
        return self


class TrivialAugment(Spec):
    """One operation of fourteen, chosen at random for each row, of random strength.

    Source: Mueller & Hutter 2021 (https://arxiv.org/abs/2103.10158), the wide space.
    """

    kind: Literal["trivial_augment"]
    num_magnitude_bins: int = Field(default=31, ge=2, le=1024)
    """Strengths to choose from."""
    interpolation: Interpolation = "nearest"
    """How shears, shifts and rotations take pixels: the nearest, or a mix of the nearest four."""


class RandAugment(Spec):
    """Some operations of fourteen, chosen at random for each row, of one strength.

    Source: Cubuk et al. 2020 (https://arxiv.org/abs/1909.13719).
    """

    kind: Literal["rand_augment"]
    num_ops: int = Field(default=2, ge=1, le=16)
    """Operations that follow each other on a row."""
    magnitude: int = Field(default=9, ge=0)
    """Strength of all of them, from 0 to `num_magnitude_bins` - 1."""
    num_magnitude_bins: int = Field(default=31, ge=2, le=1024)
    """Strengths of the scale."""
    interpolation: Interpolation = "nearest"
    """How shears, shifts and rotations take pixels: the nearest, or a mix of the nearest four."""

    @model_validator(mode="after")
    def _on_the_scale(self) -> Self:
        if self.magnitude >= self.num_magnitude_bins:
            raise ValueError(
                f"magnitude {self.magnitude} is not on a scale of {self.num_magnitude_bins}; "
                f"write {self.num_magnitude_bins - 1} or less"
            )
        return self


MovingSpec = (
    HorizontalFlip | VerticalFlip | RandomCrop | RandomResizedCrop | Rotation | Affine | Perspective
)
"""Operations that move pixels."""

RuleSpec = Grayscale | Invert | Posterize | Solarize | AutoContrast | Equalize | Sharpness
"""Operations in which chance decides only whether a row is changed."""

AugmentSpec = Annotated[
    MovingSpec
    | ColorJitter
    | RuleSpec
    | GaussianBlur
    | RandomErasing
    | TrivialAugment
    | RandAugment,
    Field(discriminator="kind"),
]


def without_effect_on_grey(operation: AugmentSpec) -> str | None:
    """Name what an operation is asked to do that leaves grey images as they are, if anything."""
    match operation:
        case Grayscale():
            return "grayscale"
        case ColorJitter(saturation=saturation) if saturation:
            return "color_jitter.saturation"
        case ColorJitter(hue=hue) if hue:
            return "color_jitter.hue"
        case _:
            return None


def _check_share(scale: tuple[float, float]) -> None:
    if scale[0] > scale[1] or scale[1] > 1:
        raise ValueError(f"scale {list(scale)} must rise and end at 1 at most; write [least, most]")


def _check_rising(name: str, ends: tuple[float, float]) -> None:
    if ends[0] > ends[1]:
        raise ValueError(f"{name} {list(ends)} must rise; write [least, most]")
