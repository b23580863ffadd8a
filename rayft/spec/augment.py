"""The `augment:` list: random changes to training images, applied in the order given."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.augment_motion import (
    Affine,
    Interpolation,
    MovingSpec,
    RandomCrop,
    RandomResizedCrop,
    Rotation,
    check_rising,
    check_share,
)
from rayft.spec.augment_tone import ColorJitter, GaussianBlur, Grayscale, RuleSpec
from rayft.spec.base import Positive, Probability, Spec
from rayft.spec.data import RGB


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
        check_share(self.scale)
        check_rising("ratio", self.ratio)
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


def changes_images(augment: tuple[AugmentSpec, ...]) -> bool:
    """Tell whether an `augment:` list changes any row; at probability 0, as in a sweep, none is."""
    return any(_acts(operation) for operation in augment)


def _acts(operation: AugmentSpec) -> bool:
    match operation:
        case (
            RandomCrop()
            | RandomResizedCrop()
            | Rotation()
            | Affine()
            | ColorJitter()
            | TrivialAugment()
            | RandAugment()
        ):
            return True
        case _:
            return operation.probability > 0


def needs_colours(operation: AugmentSpec, *, channels: int) -> str | None:
    """Name what an operation is asked to do that images of so many channels cannot have done.

    What treats each channel alike works on any number of them. Brightness and contrast of
    `color_jitter` work on RGB and on grey, since contrast turns about the brightness to the eye.
    """
    if channels == RGB:
        return None
    match operation:
        case Grayscale() | TrivialAugment() | RandAugment():
            return operation.kind
        case ColorJitter() if channels != 1:
            return operation.kind
        case ColorJitter():
            return without_effect_on_grey(operation)
        case _:
            return None


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
