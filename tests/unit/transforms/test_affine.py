import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from rayft.transforms.affine import MoveAffinely

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 40, 24, 3), dtype=np.uint8)
DRAWS = np.random.default_rng(1).random((30, 6))
OFF = {"degrees": 0.0, "translate": (0.0, 0.0), "scale": (1.0, 1.0), "shear": (0.0, 0.0)}


def test_amounts_are_those_of_the_settings_and_pixels_torchvisions() -> None:
    operation = MoveAffinely(
        degrees=20.0,
        translate=(0.1, 0.2),
        scale=(0.8, 1.3),
        shear=(10.0, 5.0),
        interpolation="bilinear",
    )

    moved = operation(IMAGES, DRAWS)

    for image, draw, result in zip(IMAGES, DRAWS, moved, strict=True):
        expected = tv.affine(
            torch.from_numpy(image).permute(2, 0, 1),
            angle=20 * (2 * draw[0] - 1),
            translate=[
                round(0.1 * 24 * (2 * draw[1] - 1)),
                round(0.2 * 40 * (2 * draw[2] - 1)),
            ],
            scale=0.8 + 0.5 * draw[3],
            shear=[10 * (2 * draw[4] - 1), 5 * (2 * draw[5] - 1)],
            interpolation=tv.InterpolationMode.BILINEAR,
        )
        assert np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.parametrize(
    ("settings", "column"),
    [
        ({"degrees": 90.0}, 0),
        ({"translate": (0.5, 0.0)}, 1),
        ({"translate": (0.0, 0.5)}, 2),
        ({"scale": (0.5, 1.5)}, 3),
        ({"shear": (45.0, 0.0)}, 4),
        ({"shear": (0.0, 45.0)}, 5),
    ],
)
def test_each_setting_has_a_number_of_its_own(settings: dict[str, object], column: int) -> None:
    operation = MoveAffinely(**OFF | settings, interpolation="nearest")
    middle = np.full((30, 6), 0.5)
    drawn = middle.copy()
    drawn[:, column] = 0.9
    others = np.where(middle == drawn, 0.1, middle)

    assert np.array_equal(operation(IMAGES, middle), IMAGES)
    assert not np.array_equal(operation(IMAGES, drawn), IMAGES)
    assert np.array_equal(operation(IMAGES, others), IMAGES)


def test_no_amount_gives_the_images_back() -> None:
    assert np.array_equal(MoveAffinely(**OFF, interpolation="nearest")(IMAGES, DRAWS), IMAGES)
