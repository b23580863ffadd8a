from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from rayft.transforms.tones import equalize, invert, posterize, solarize, stretch_contrast

NUM_ROWS = 24
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM_ROWS, 21, 17, 3), dtype=np.uint8)
IMAGES[0] = 128
IMAGES[1, :, :, 1] = 7
IMAGES[2] = 255
IMAGES[3] = 0
IMAGES[4] = IMAGES[4] // 3 + 40
IMAGES[5] = IMAGES[5] // 64
IMAGES[6, 0, 0] = 9
IMAGES[6, 1:] = 200
SMOOTH = np.arange(21 * 17, dtype=np.uint8).reshape(21, 17, 1)
IMAGES[7] = SMOOTH
Reference = Callable[[torch.Tensor], torch.Tensor]


def _check(result: np.ndarray, *references: Reference) -> None:
    assert result.dtype == np.uint8
    for image, changed, reference in zip(IMAGES, result, references, strict=True):
        expected = reference(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
        assert np.array_equal(changed, expected)


@pytest.mark.parametrize(
    ("change", "reference"),
    [(invert, tv.invert), (stretch_contrast, tv.autocontrast), (equalize, tv.equalize)],
)
def test_the_bytes_are_torchvisions(
    change: Callable[[np.ndarray], np.ndarray], reference: Reference
) -> None:
    _check(change(IMAGES), *[reference] * NUM_ROWS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("change", "reference"), [(stretch_contrast, tv.autocontrast), (equalize, tv.equalize)]
)
def test_larger_images_and_other_channels_too(
    change: Callable[[np.ndarray], np.ndarray], reference: Reference, channels: int
) -> None:
    coarse = np.random.default_rng(2).normal(120, 30, (7, 96, 96, channels))
    images = coarse.clip(0, 255).astype(np.uint8)

    changed = change(images)

    expected = reference(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert np.array_equal(changed, expected.numpy())


def test_posterize_keeps_as_many_bits_as_a_row_is_told() -> None:
    bits = np.arange(NUM_ROWS) % 8 + 1

    changed = posterize(IMAGES, bits)

    _check(changed, *[lambda image, keep=keep: tv.posterize(image, keep) for keep in bits.tolist()])
    assert np.array_equal(posterize(IMAGES, np.array([3])), posterize(IMAGES, np.full(NUM_ROWS, 3)))


def test_solarize_inverts_from_a_rows_threshold_on() -> None:
    thresholds = np.linspace(0, 255, NUM_ROWS).astype(np.int64)

    changed = solarize(IMAGES, thresholds)

    _check(changed, *[lambda image, at=at: tv.solarize(image, at) for at in thresholds.tolist()])
    assert thresholds[-1] == 255
