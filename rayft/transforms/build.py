"""From the specs of operations to the operations."""

from typing import assert_never

from rayft.spec.augment import AugmentSpec, RandAugment, RandomErasing, TrivialAugment
from rayft.spec.augment_motion import (
    Affine,
    HorizontalFlip,
    MovingSpec,
    Perspective,
    RandomCrop,
    RandomResizedCrop,
    Rotation,
    VerticalFlip,
)
from rayft.spec.augment_tone import (
    AutoContrast,
    ColorJitter,
    Equalize,
    GaussianBlur,
    Grayscale,
    Invert,
    Posterize,
    RuleSpec,
    Sharpness,
    Solarize,
)
from rayft.transforms.affine import MoveAffinely
from rayft.transforms.color import JitterColor, to_grey
from rayft.transforms.crop import CropRandomly
from rayft.transforms.erasing import EraseRandomly
from rayft.transforms.filters import BlurGaussian, SharpenAll
from rayft.transforms.flip import FlipHorizontally, FlipVertically
from rayft.transforms.operation import ChangeSome, Operation, Rule
from rayft.transforms.perspective import ChangePerspective
from rayft.transforms.policy import AugmentRandomly, AugmentTrivially
from rayft.transforms.resized_crop import CropAndResizeRandomly
from rayft.transforms.rotation import Rotate
from rayft.transforms.tones import (
    PosterizeAll,
    SolarizeAll,
    equalize,
    invert,
    stretch_contrast,
)


def make_operation(spec: AugmentSpec, *, image_size: int) -> Operation:
    """Build one operation of the `augment:` list.

    Args:
        spec: its settings.
        image_size: height and width that leave the list, in pixels.
    """
    match spec:
        case (
            HorizontalFlip()
            | VerticalFlip()
            | RandomCrop()
            | RandomResizedCrop()
            | Rotation()
            | Affine()
            | Perspective()
        ):
            return _make_moving(spec, image_size)
        case (
            Grayscale()
            | Invert()
            | Posterize()
            | Solarize()
            | AutoContrast()
            | Equalize()
            | Sharpness()
        ):
            return _make_rule(spec)
        case ColorJitter():
            return JitterColor(
                brightness=spec.brightness,
                contrast=spec.contrast,
                saturation=spec.saturation,
                hue=spec.hue,
            )
        case GaussianBlur():
            return BlurGaussian(
                kernel_size=spec.kernel_size, sigma=spec.sigma, probability=spec.probability
            )
        case RandomErasing():
            return EraseRandomly(
                probability=spec.probability, scale=spec.scale, ratio=spec.ratio, value=spec.value
            )
        case TrivialAugment():
            return AugmentTrivially(
                num_bins=spec.num_magnitude_bins, interpolation=spec.interpolation
            )
        case RandAugment():
            return AugmentRandomly(
                num_operations=spec.num_ops,
                place=spec.magnitude,
                num_bins=spec.num_magnitude_bins,
                interpolation=spec.interpolation,
            )
        case _:
            assert_never(spec)


def _make_moving(spec: MovingSpec, image_size: int) -> Operation:
    match spec:
        case HorizontalFlip():
            return FlipHorizontally(spec.probability)
        case VerticalFlip():
            return FlipVertically(spec.probability)
        case RandomCrop():
            return CropRandomly(spec.padding, spec.padding_mode)
        case RandomResizedCrop():
            return CropAndResizeRandomly(spec.scale, spec.ratio, image_size)
        case Rotation():
            return Rotate(spec.degrees)
        case Affine():
            return MoveAffinely(
                degrees=spec.degrees,
                translate=spec.translate,
                scale=spec.scale,
                shear=spec.shear,
                interpolation=spec.interpolation,
            )
        case Perspective():
            return ChangePerspective(
                distortion=spec.distortion_scale,
                probability=spec.probability,
                interpolation=spec.interpolation,
            )
        case _:
            assert_never(spec)


def _make_rule(spec: RuleSpec) -> Operation:
    return ChangeSome(spec.probability, _rule(spec))


def _rule(spec: RuleSpec) -> Rule:
    match spec:
        case Grayscale():
            return to_grey
        case Invert():
            return invert
        case Posterize():
            return PosterizeAll(spec.bits)
        case Solarize():
            return SolarizeAll(spec.threshold)
        case AutoContrast():
            return stretch_contrast
        case Equalize():
            return equalize
        case Sharpness():
            return SharpenAll(spec.factor)
        case _:
            assert_never(spec)
