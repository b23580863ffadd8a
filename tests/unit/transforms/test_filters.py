import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from rayft.transforms.filters import BlurGaussian, sharpen

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 25, 18, 3), dtype=np.uint8)
IMAGES[0] = 255
DRAWS = np.random.default_rng(1).random((20, 2))


@pytest.mark.parametrize("kernel_size", [3, 5, 23])
def test_a_blur_is_torchvisions_within_one_level(kernel_size: int) -> None:
    operation = BlurGaussian(kernel_size=kernel_size, sigma=(0.1, 2.0), probability=0.6)

    blurred = operation(IMAGES, DRAWS)

    for image, (chance, width), result in zip(IMAGES, DRAWS, blurred, strict=True):
        chw = torch.from_numpy(image).permute(2, 0, 1)
        sigma = [0.1 + 1.9 * width] * 2
        expected = tv.gaussian_blur(chw, [kernel_size] * 2, sigma) if chance < 0.6 else chw
        assert np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1


def test_a_blur_keeps_a_flat_image() -> None:
    blurred = BlurGaussian(kernel_size=9, sigma=(2.0, 2.0), probability=1.0)(IMAGES[:1], DRAWS[:1])

    assert np.array_equal(blurred, IMAGES[:1])


def test_rows_may_differ_in_sharpness_and_are_torchvisions_within_one_level() -> None:
    factors = np.linspace(0, 2.5, 20).astype(np.float32)

    sharp = sharpen(IMAGES, factors)

    for image, factor, result in zip(IMAGES, factors.tolist(), sharp, strict=True):
        expected = tv.adjust_sharpness(torch.from_numpy(image).permute(2, 0, 1), factor)
        assert np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1


def test_sharpness_rounds_to_the_nearest_not_down() -> None:
    sharp = sharpen(IMAGES, np.array([0.5], np.float32))

    smooth = sharpen(IMAGES, np.array([0.0], np.float32)).astype(float)
    exact = (IMAGES + smooth) / 2
    assert np.abs(sharp - exact)[:, 1:-1, 1:-1].max() <= 0.5


@pytest.mark.parametrize("shape", [(2, 9), (9, 1), (2, 2)])
def test_an_image_that_is_all_border_stays(shape: tuple[int, int]) -> None:
    images = IMAGES[:, : shape[0], : shape[1]]

    sharp = sharpen(images, np.array([2.0], np.float32))

    assert np.array_equal(sharp, images)
    assert not np.shares_memory(sharp, images)
