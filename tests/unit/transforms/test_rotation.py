import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from rayft.transforms.rotation import Rotate


@pytest.mark.parametrize("shape", [(33, 33, 3), (24, 40, 3), (16, 16, 1)])
@pytest.mark.parametrize("degrees", [15.0, 180.0])
def test_pixels_are_torchvisions_within_one_level(
    shape: tuple[int, int, int], degrees: float
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, *shape), dtype=np.uint8)
    draws = np.random.default_rng(1).random((30, 1))

    rotated = Rotate(degrees)(images, draws)

    for image, draw, result in zip(images, draws[:, 0], rotated, strict=True):
        expected = tv.rotate(
            torch.from_numpy(image).permute(2, 0, 1),
            degrees * (2 * draw - 1),
            interpolation=tv.InterpolationMode.BILINEAR,
        )
        assert np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1


def test_no_angle_gives_the_image_back() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)

    assert np.array_equal(Rotate(90.0)(images, np.full((2, 1), 0.5)), images)


def test_angles_reach_from_one_end_to_the_other() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)

    rotated = Rotate(90.0)(images, np.array([[0.0], [1.0]]))

    assert np.abs(rotated[0].astype(int) - np.rot90(images[0], -1)).max() <= 1
    assert np.abs(rotated[1].astype(int) - np.rot90(images[1], 1)).max() <= 1
