import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from rayft.transforms.policy import (
    CHANGES,
    NARROW,
    WIDE,
    AugmentRandomly,
    AugmentTrivially,
    Change,
    Space,
    change_each,
    matrix_of,
    strengths,
)
from tests.unit.transforms.places import in_the_middle

HEIGHT, WIDTH = 33, 40
IMAGE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
CHW = torch.from_numpy(IMAGE).permute(2, 0, 1)
REFERENCES = [(WIDE, v2.TrivialAugmentWide(31)), (NARROW, v2.RandAugment(2, 9, 31))]
NAMES = [
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
]
BLENDED = {"Brightness", "Color", "Contrast", "Sharpness"}


@pytest.mark.parametrize(("space", "reference"), REFERENCES, ids=["wide", "narrow"])
def test_operations_and_strengths_are_torchvisions(
    space: Space, reference: v2.TrivialAugmentWide | v2.RandAugment
) -> None:
    table = strengths(space, 31, HEIGHT, WIDTH)

    assert list(reference._AUGMENTATION_SPACE) == NAMES
    for (name, (values, is_signed)), change, ours in zip(
        reference._AUGMENTATION_SPACE.items(), CHANGES, table, strict=True
    ):
        theirs = values(31, HEIGHT, WIDTH)
        expected = np.zeros(31) if theirs is None else theirs.double().numpy()
        if name.startswith("Translate"):
            expected = np.trunc(expected.round(4))  # torch's 16 is 15.99999
        if name == "Solarize":
            expected = np.ceil((255 * expected).round(3))
        assert np.allclose(ours, expected, atol=1e-5), name
        assert is_signed == (Change.SHEAR_X.value <= change.value <= Change.SHARPNESS.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("space", "reference"), REFERENCES, ids=["wide", "narrow"])
def test_pixels_are_torchvisions(
    name: str, space: Space, reference: v2.TrivialAugmentWide | v2.RandAugment
) -> None:
    place = NAMES.index(name)
    by = strengths(space, 31, HEIGHT, WIDTH)[place]
    signed = np.concatenate((by, -by)) if 1 <= place <= 9 else by
    images = np.broadcast_to(IMAGE, (len(signed), *IMAGE.shape))

    changed = change_each(images, np.full(len(signed), place), signed, interpolation="nearest")

    for strength, result in zip(signed.tolist(), changed, strict=True):
        expected = (
            reference._apply_image_or_video_transform(CHW, name, strength, "nearest", {})
            if name != "Solarize"
            else tv.solarize(CHW, strength)
        )
        difference = np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy())
        if name in ("ShearX", "ShearY", "Rotate"):
            matrix = np.array(matrix_of(CHANGES[place], strength, HEIGHT, WIDTH))
            assert not (difference.any(axis=2) & ~in_the_middle(matrix, HEIGHT, WIDTH)).any()
        else:
            assert difference.max() <= (name in BLENDED)


def test_a_row_gets_what_its_numbers_say() -> None:
    draws = np.random.default_rng(1).random((200, 3))
    images = np.broadcast_to(IMAGE, (200, *IMAGE.shape))
    operation = AugmentTrivially(num_bins=31, interpolation="nearest")

    changed = operation(images, draws)

    table = strengths(WIDE, 31, HEIGHT, WIDTH)
    for (which, bin_, sign), result in zip(draws.tolist(), changed, strict=True):
        place = int(which * 14)
        by = table[place, int(bin_ * 31)] * (-1 if sign < 0.5 and 1 <= place <= 9 else 1)
        (expected,) = change_each(
            IMAGE[None], np.array([place]), np.array([by]), interpolation="nearest"
        )
        assert np.array_equal(result, expected)


def test_random_operations_follow_each_other_at_one_strength() -> None:
    draws = np.random.default_rng(1).random((200, 4))
    images = np.broadcast_to(IMAGE, (200, *IMAGE.shape))
    operation = AugmentRandomly(num_operations=2, place=9, num_bins=31, interpolation="bilinear")

    changed = operation(images, draws)

    assert operation.num_draws == 4
    table = strengths(NARROW, 31, HEIGHT, WIDTH)[:, 9]
    for row, result in zip(draws.tolist(), changed, strict=True):
        expected = IMAGE[None]
        for which, sign in (row[:2], row[2:]):
            place = int(which * 14)
            by = table[place] * (-1 if sign < 0.5 and 1 <= place <= 9 else 1)
            expected = change_each(
                expected, np.array([place]), np.array([by]), interpolation="bilinear"
            )
        assert np.array_equal(result, expected[0])


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (AugmentTrivially(num_bins=31, interpolation="nearest"), "trivial_augment"),
        (
            AugmentRandomly(num_operations=1, place=9, num_bins=31, interpolation="nearest"),
            "rand_augment",
        ),
    ],
)
def test_images_without_three_channels_are_refused(
    operation: AugmentTrivially | AugmentRandomly, name: str
) -> None:
    with pytest.raises(ValueError, match=f"{name} needs RGB images, got 1 channels"):
        operation(IMAGE[None, ..., :1], np.full((1, 3), 0.5))


@pytest.mark.parametrize("space", [WIDE, NARROW])
@pytest.mark.parametrize("num_bins", [2, 10, 64])
def test_a_scale_reaches_from_nothing_to_the_greatest(space: Space, num_bins: int) -> None:
    table = strengths(space, num_bins, HEIGHT, WIDTH)

    bits, thresholds = (table[NAMES.index(name)] for name in ("Posterize", "Solarize"))
    assert table[1:10, 0].tolist() == [0] * 9
    assert (bits[0], bits[-1]) == (8, 8 - space.lost_bits)
    assert (thresholds[0], thresholds[-1]) == (255, 0)
    shift = space.shift or 150 / 331 * WIDTH
    assert table[3, -1] == math.floor(shift)
    assert table[5, -1] == space.degrees
