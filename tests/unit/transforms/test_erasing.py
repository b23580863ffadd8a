import math

import numpy as np
import pytest

from rayft.transforms.erasing import EraseRandomly

NUM_ROWS = 400
IMAGES = np.random.default_rng(0).integers(1, 255, (NUM_ROWS, 24, 40, 3), dtype=np.uint8)
DRAWS = np.random.default_rng(1).random((NUM_ROWS, 25))
SETTINGS = {"probability": 0.5, "scale": (0.02, 0.33), "ratio": (0.3, 3.3)}


@pytest.mark.parametrize("value", [0, 255])
def test_rows_below_the_probability_lose_the_box_that_was_drawn(value: int) -> None:
    operation = EraseRandomly(**SETTINGS, value=value)

    erased = operation(IMAGES, DRAWS)

    for image, draws, result in zip(IMAGES, DRAWS.tolist(), erased, strict=True):
        expected = image.copy()
        if draws[0] < 0.5:
            top, left, height, width = operation.box(draws[1:], 24, 40)
            expected[top : top + height, left : left + width] = value
        assert np.array_equal(result, expected)


def test_boxes_follow_torchvisions_law() -> None:
    operation = EraseRandomly(**SETTINGS, value=0)

    for draws in DRAWS.tolist():
        top, left, height, width = operation.box(draws, 24, 40)
        area = 24 * 40 * (0.02 + 0.31 * draws[0])
        ratio = math.exp(math.log(0.3) + (math.log(3.3) - math.log(0.3)) * draws[10])
        first = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if first[0] < 24 and first[1] < 40:
            assert (height, width) == first
        assert 0 <= top <= 24 - height
        assert 0 <= left <= 40 - width
        assert 0.01 < height * width / (24 * 40) < 0.35


def test_a_box_reaches_every_border() -> None:
    operation = EraseRandomly(probability=1.0, scale=(0.2, 0.2), ratio=(1.0, 1.0), value=0)
    first, last = [0.5] * 20 + [0.0] * 4, [0.5] * 20 + [1 - 2**-32] * 4

    assert operation.box(first, 24, 40)[:2] == (0, 0)
    top, left, height, width = operation.box(last, 24, 40)
    assert (top + height, left + width) == (24, 40)


def test_a_box_that_never_fits_changes_nothing() -> None:
    operation = EraseRandomly(probability=1.0, scale=(1.0, 1.0), ratio=(1.0, 1.0), value=0)

    assert np.array_equal(operation(IMAGES, DRAWS), IMAGES)


def test_noise_is_even_and_differs_from_row_to_row() -> None:
    operation = EraseRandomly(probability=1.0, scale=(0.3, 0.3), ratio=(1.0, 1.0), value="random")
    black = np.zeros((NUM_ROWS, 24, 40, 3), np.uint8)

    noise = operation(black, DRAWS)

    again = operation(black, DRAWS)
    other = operation(black, np.where(np.arange(25) == 24, 0.5, DRAWS))
    values = noise[noise > 0]
    assert np.array_equal(noise, again)
    assert not np.array_equal(noise[:, 2:], other[:, 2:])
    assert abs(values.mean() - 128) < 1
    assert np.bincount(values, minlength=256)[1:].min() > 0.8 * len(values) / 256
