"""Operations of the `augment:` list that move pixels."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.base import Positive, Probability, Spec

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
        check_share(self.scale)
        check_rising("ratio", self.ratio)
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
        check_rising("scale", self.scale)
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


MovingSpec = (
    HorizontalFlip | VerticalFlip | RandomCrop | RandomResizedCrop | Rotation | Affine | Perspective
)
"""Operations that move pixels."""


def check_share(scale: tuple[float, float]) -> None:
    """Refuse shares of an area that do not rise, or exceed it."""
    if scale[0] > scale[1] or scale[1] > 1:
        raise ValueError(f"scale {list(scale)} must rise and end at 1 at most; write [least, most]")


def check_rising(name: str, ends: tuple[float, float]) -> None:
    """Refuse a range that does not rise."""
    if ends[0] > ends[1]:
        raise ValueError(f"{name} {list(ends)} must rise; write [least, most]")
