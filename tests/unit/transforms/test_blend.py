import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rayft.transforms.blend import _mean_grey, _mean_grey_of, blend_colors

WEIGHTS = np.array([0.2989, 0.587, 0.114])


def _images(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(height)
    noise = random.integers(0, 256, (6, height, width, 3), dtype=np.uint8)
    noise[1] //= 3
    noise[2] = 255 - noise[2] // 4
    noise[3] = noise[3] // 2 + 60
    noise[4, ..., 1:] = noise[4, ..., :1]
    noise[5] = 255
    return noise


def _exact(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Clamp after each step, round nowhere; grey half a level lower."""
    values = np.minimum(image * brightness, 255.0)
    mean = max(0.0, (values @ WEIGHTS).mean() - 0.5)
    values = (values * contrast + mean * (1 - contrast)).clip(0, 255)
    grey = (values @ WEIGHTS)[..., None] - 0.5
    return (values * saturation + grey * (1 - saturation)).clip(0, 255)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (40, 33)])
@pytest.mark.parametrize(("most", "levels"), [(2.0, 1), (4.0, 3)])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_values_are_within_a_level_of_the_exact_ones(
    size: tuple[int, int], most: float, levels: int, data: st.DataObject
) -> None:
    images = _images(*size)
    factor = st.one_of(st.floats(0, most), st.sampled_from([0.0, 1.0, 2.0]))
    factors = np.array([data.draw(st.tuples(factor, factor, factor)) for _ in images])

    result = blend_colors(images, factors)

    for image, three, changed in zip(images, factors, result, strict=True):
        assert np.abs(changed - _exact(image, *three)).max() <= levels


def test_factors_of_one_leave_every_value() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = np.concatenate((every, _images(16, 16)))

    assert np.array_equal(blend_colors(images, np.ones((7, 3))), images)


def test_rows_beside_a_row_and_their_factors_do_not_matter() -> None:
    images = _images(31, 32).repeat(20, axis=0)
    factors = np.random.default_rng(0).uniform(0, 3, (len(images), 3))

    together = blend_colors(images, factors)

    for row in range(len(images)):
        alone = blend_colors(images[[row]], factors[[row]])
        assert np.array_equal(together[row], alone[0])


@pytest.mark.parametrize(("steps", "height"), [(4.0, 40), (64.0, 700), (2.0**16, 4)])
def test_the_mean_grey_of_a_large_image_is_exact(steps: float, height: int) -> None:
    images = np.random.default_rng(0).integers(100, 256, (2, height, 1024, 3), dtype=np.uint8)
    white = np.round(np.array([127.6, 191.3]) * steps) / steps

    found = _mean_grey(images, white, np.full(2, steps))

    on_device = _mean_grey_of(torch.from_numpy(images), *map(torch.tensor, (white, [steps] * 2)))
    assert found.tolist() == on_device.tolist()
