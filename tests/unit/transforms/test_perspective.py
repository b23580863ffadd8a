import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from rayft.transforms.perspective import ChangePerspective, perspective_matrices
from tests.unit.transforms.places import in_the_middle

HEIGHT, WIDTH = 25, 34
IMAGES = np.random.default_rng(0).integers(0, 256, (60, HEIGHT, WIDTH, 3), dtype=np.uint8)
DRAWS = np.random.default_rng(1).random((60, 9))
BORDER = [[0, 0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1], [0, HEIGHT - 1]]


@pytest.mark.parametrize("distortion", [0.2, 0.5, 0.9])
def test_pixels_are_torchvisions_within_one_level(distortion: float) -> None:
    operation = ChangePerspective(distortion=distortion, probability=0.7, interpolation="bilinear")

    changed = operation(IMAGES, DRAWS)

    corners = operation.corners(DRAWS[:, 1:], height=HEIGHT, width=WIDTH)
    for image, draw, ends, result in zip(IMAGES, DRAWS[:, 0], corners, changed, strict=True):
        chw = torch.from_numpy(image).permute(2, 0, 1)
        expected = tv.perspective(chw, BORDER, ends.astype(int).tolist()) if draw < 0.7 else chw
        difference = np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy())
        assert difference.max() <= 1


def test_nearest_pixels_are_torchvisions_but_for_places_in_the_middle() -> None:
    operation = ChangePerspective(distortion=0.5, probability=1.0, interpolation="nearest")

    changed = operation(IMAGES, DRAWS)

    corners = operation.corners(DRAWS[:, 1:], height=HEIGHT, width=WIDTH)
    expected = [
        tv.perspective(
            torch.from_numpy(image).permute(2, 0, 1),
            BORDER,
            ends.astype(int).tolist(),
            interpolation=tv.InterpolationMode.NEAREST,
        )
        .permute(1, 2, 0)
        .numpy()
        for image, ends in zip(IMAGES, corners, strict=True)
    ]
    differs = (changed != np.stack(expected)).any(axis=3)
    middle = in_the_middle(perspective_matrices(corners, height=HEIGHT, width=WIDTH), HEIGHT, WIDTH)
    assert not (differs & ~middle).any()
    assert middle.mean() < 0.02


def test_corners_reach_from_where_they_are_to_the_share_of_the_way_to_the_middle() -> None:
    operation = ChangePerspective(distortion=0.5, probability=1.0, interpolation="nearest")

    least = operation.corners(np.zeros((1, 8)), height=HEIGHT, width=WIDTH)
    most = operation.corners(np.full((1, 8), 1 - 2**-32), height=HEIGHT, width=WIDTH)

    assert least[0].tolist() == BORDER
    assert np.abs(most - least)[0].tolist() == [[8, 6]] * 4


def test_corners_that_fall_together_make_a_black_image() -> None:
    together = np.full((1, 4, 2), 7.0)

    matrices = perspective_matrices(together, height=HEIGHT, width=WIDTH)

    assert not np.isfinite(matrices).all()
    operation = ChangePerspective(distortion=1.0, probability=1.0, interpolation="bilinear")
    assert operation(IMAGES, np.full((60, 9), 0.999)).shape == IMAGES.shape
