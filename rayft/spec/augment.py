"""The `augment:` list: random changes to training images, applied in the order given."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.base import NonNegative, Positive, Probability, Spec


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
        if self.scale[0] > self.scale[1] or self.scale[1] > 1:
            raise ValueError(
                f"scale {list(self.scale)} must rise and end at 1 at most; write [least, most]"
            )
        if self.ratio[0] > self.ratio[1]:
            raise ValueError(f"ratio {list(self.ratio)} must rise; write [least, most]")
        return self


class Rotation(Spec):
    """Turn by a random angle, bilinear, corners black."""

    kind: Literal["rotation"]
    degrees: float = Field(gt=0, le=180)
    """Largest angle, in either direction."""


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


AugmentSpec = Annotated[
    HorizontalFlip | VerticalFlip | RandomCrop | RandomResizedCrop | Rotation | ColorJitter,
    Field(discriminator="kind"),
]
