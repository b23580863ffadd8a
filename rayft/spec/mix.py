"""The `mix:` list: training images put together from two rows, with the labels of both."""

from typing import Annotated, Literal

from pydantic import Field

from rayft.spec.base import Positive, Probability, Spec


class Mixup(Spec):
    """Blend two images, each with its share, and expect both labels with the same shares.

    Source: Zhang et al. 2018 (https://arxiv.org/abs/1710.09412), equation 1.
    """

    kind: Literal["mixup"]
    alpha: Positive = 0.2
    """Both parameters of the Beta distribution of the shares: small leaves most images nearly
    whole, 1 makes every share equally likely."""
    probability: Probability = 1.0
    """Share of the rows that are blended."""


class Cutmix(Spec):
    """Put a rectangle of another image into an image, and expect both labels by their areas.

    Source: Yun et al. 2019 (https://arxiv.org/abs/1905.04899), section 3.1.
    """

    kind: Literal["cutmix"]
    alpha: Positive = 1.0
    """Both parameters of the Beta distribution of the area that stays."""
    probability: Probability = 1.0
    """Share of the rows that get a rectangle."""


MixSpec = Annotated[Mixup | Cutmix, Field(discriminator="kind")]


def acting(mix: tuple[MixSpec, ...]) -> tuple[MixSpec, ...]:
    """Return those that put rows together; at probability 0, as in a sweep, none does."""
    return tuple(each for each in mix if each.probability)
