import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torchvision.transforms import v2

from rayft.transforms.blend import blend_colors
from rayft.transforms.color import JitterColor, to_grey

NUM_ROWS = 24
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM_ROWS, 21, 17, 3), dtype=np.uint8)
IMAGES[0] = 128
IMAGES[1, :, :, 1] = IMAGES[1, :, :, 0]
IMAGES[2] = 255
IMAGES[3] = 0
DRAWS = np.random.default_rng(1).random((NUM_ROWS, 4))
OFF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
REFERENCES = {
    "brightness": tv.adjust_brightness,
    "contrast": tv.adjust_contrast,
    "saturation": tv.adjust_saturation,
    "hue": tv.adjust_hue,
}


@pytest.mark.parametrize(
    ("setting", "spread", "base"),
    [
        ("brightness", 0.4, 1),
        ("brightness", 1.0, 1),
        ("contrast", 0.4, 1),
        ("contrast", 1.0, 1),
        ("saturation", 0.4, 1),
        ("saturation", 1.0, 1),
        ("hue", 0.1, 0),
        ("hue", 0.5, 0),
    ],
)
def test_one_change_alone_is_torchvisions_within_one_level(
    setting: str, spread: float, base: int
) -> None:
    changed = JitterColor(**OFF | {setting: spread})(IMAGES, DRAWS)

    column = list(OFF).index(setting)
    for image, draw, result in zip(IMAGES, DRAWS[:, column], changed, strict=True):
        factor = base + spread * (2 * draw - 1)
        expected = REFERENCES[setting](torch.from_numpy(image).permute(2, 0, 1), factor)
        assert np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1


def test_brightness_contrast_saturation_and_hue_follow_in_this_order() -> None:
    spreads = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}

    changed = JitterColor(**spreads)(IMAGES, DRAWS)

    # In float torchvision rounds nowhere, except for its exact mean grey.
    for image, draws, result in zip(IMAGES, DRAWS, changed, strict=True):
        expected = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        for (name, spread), draw in zip(spreads.items(), draws, strict=True):
            expected = REFERENCES[name](expected, (name != "hue") + spread * (2 * draw - 1))
        difference = result - 255 * expected.permute(1, 2, 0).numpy()
        assert np.abs(difference).max() <= 2


def test_values_are_rounded_to_the_nearest_not_cut_off() -> None:
    changed = JitterColor(**OFF | {"brightness": 0.4})(IMAGES, DRAWS)

    factors = (1 + 0.4 * (2 * DRAWS[:, 0] - 1))[:, None, None, None]
    exact = np.minimum(IMAGES * factors, 255)
    assert np.abs(changed - exact).max() < 0.55


def test_spreads_above_one_stop_at_factor_zero() -> None:
    lowest = np.zeros((NUM_ROWS, 4))

    assert not JitterColor(**OFF | {"brightness": 1.5})(IMAGES, lowest).any()
    grey = JitterColor(**OFF | {"saturation": 1.5})(IMAGES, lowest)
    assert (grey == grey[..., :1]).all()


@pytest.mark.parametrize("spread", [0.3, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_factors_are_spread_evenly_over_torchvisions_range(column: int, spread: float) -> None:
    setting = list(OFF)[column]
    jitter = JitterColor(**OFF | {setting: spread})

    changed = jitter(IMAGES, DRAWS)

    low, high = getattr(v2.ColorJitter(**{setting: spread}), setting)
    factors = np.ones((NUM_ROWS, 3))
    factors[:, column] = low + (high - low) * DRAWS[:, column]
    assert np.array_equal(changed, blend_colors(IMAGES, factors))
    assert np.array_equal(changed, jitter(torch.from_numpy(IMAGES), DRAWS).numpy())


def test_images_without_three_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="color_jitter needs RGB images, got 1 channels"):
        JitterColor(**OFF | {"hue": 0.1})(IMAGES[..., :1], DRAWS)


def test_grey_is_torchvisions_but_for_rare_pixels() -> None:
    images = np.random.default_rng(3).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)

    grey = to_grey(images)

    chw = torch.from_numpy(images).permute(0, 3, 1, 2)
    expected = tv.rgb_to_grayscale(chw, num_output_channels=3).permute(0, 2, 3, 1).numpy()
    difference = np.abs(grey.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    with pytest.raises(ValueError, match="grayscale needs RGB images, got 4 channels"):
        to_grey(np.zeros((1, 8, 8, 4), np.uint8))
