from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from rayft.transforms.flip import FlipHorizontally, FlipVertically

Reference = Callable[[torch.Tensor], torch.Tensor]
IMAGES = np.random.default_rng(0).integers(0, 256, (9, 13, 18, 3), dtype=np.uint8)
DRAWS = np.linspace(0, 0.99, 9)[:, None]


@pytest.mark.parametrize(
    ("operation", "reference"),
    [
        (FlipHorizontally(0.5), tv.horizontal_flip),
        (FlipVertically(0.5), tv.vertical_flip),
        (FlipHorizontally(0.0), tv.horizontal_flip),
        (FlipVertically(1.0), tv.vertical_flip),
    ],
)
def test_rows_below_the_probability_are_flipped_as_by_torchvision(
    operation: FlipHorizontally | FlipVertically, reference: Reference
) -> None:
    flipped = operation(IMAGES, DRAWS)

    for image, draw, result in zip(IMAGES, DRAWS[:, 0], flipped, strict=True):
        chw = torch.from_numpy(image).permute(2, 0, 1)
        expected = reference(chw) if draw < operation.probability else chw
        assert np.array_equal(result, expected.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("operation", [FlipHorizontally(0.5), FlipVertically(0.5)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_flipping_twice_gives_the_image_back(
    operation: FlipHorizontally | FlipVertically, channels: int
) -> None:
    images = np.random.default_rng(1).integers(0, 256, (9, 8, 8, channels), dtype=np.uint8)

    assert np.array_equal(operation(operation(images, DRAWS), DRAWS), images)
