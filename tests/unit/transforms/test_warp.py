import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from rayft.transforms.warp import affine_matrix, warp
from tests.unit.transforms.places import in_the_middle

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 24, 31, 3), dtype=np.uint8)
RANDOM = np.random.default_rng(1)
MOVES = [
    {
        "degrees": float(RANDOM.uniform(-180, 180)),
        "translate": (int(RANDOM.integers(-9, 10)), int(RANDOM.integers(-9, 10))),
        "scale": float(RANDOM.uniform(0.5, 2)),
        "shear": (float(RANDOM.uniform(-40, 40)), float(RANDOM.uniform(-40, 40))),
    }
    for _ in range(len(IMAGES))
]


def _matrices(*, about_corner: bool = False) -> np.ndarray:
    matrices = [affine_matrix(24, 31, **move, about_corner=about_corner) for move in MOVES]
    return np.array(matrices, np.float32)


def _expected(interpolation: str, center: list[float] | None = None) -> np.ndarray:
    return np.stack(
        [
            tv.affine(
                torch.from_numpy(image).permute(2, 0, 1),
                angle=move["degrees"],
                translate=list(move["translate"]),
                scale=move["scale"],
                shear=list(move["shear"]),
                interpolation=tv.InterpolationMode(interpolation),
                center=center,
            )
            .permute(1, 2, 0)
            .numpy()
            for image, move in zip(IMAGES, MOVES, strict=True)
        ]
    )


@pytest.mark.parametrize("about_corner", [False, True])
def test_mixed_pixels_are_torchvisions_within_one_level(about_corner: bool) -> None:
    result = warp(IMAGES, _matrices(about_corner=about_corner), interpolation="bilinear")

    expected = _expected("bilinear", [0, 0] if about_corner else None)
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("about_corner", [False, True])
def test_nearest_pixels_are_torchvisions_but_for_places_in_the_middle(about_corner: bool) -> None:
    matrices = _matrices(about_corner=about_corner)

    result = warp(IMAGES, matrices, interpolation="nearest")

    expected = _expected("nearest", [0, 0] if about_corner else None)
    differs = (result != expected).any(axis=3)
    assert not (differs & ~in_the_middle(matrices, 24, 31)).any()
    assert differs.mean() < 1e-3


def test_the_identity_gives_the_images_back() -> None:
    matrix = np.array([affine_matrix(24, 31)] * len(IMAGES), np.float32)

    for interpolation in ("nearest", "bilinear"):
        assert np.array_equal(warp(IMAGES, matrix, interpolation=interpolation), IMAGES)


def test_whole_shifts_move_pixels_and_leave_black() -> None:
    matrix = np.array([affine_matrix(24, 31, translate=(3, -2))] * len(IMAGES), np.float32)

    moved = warp(IMAGES, matrix, interpolation="bilinear")

    assert np.array_equal(moved[:, :-2, 3:], IMAGES[:, 2:, :-3])
    assert not moved[:, -2:].any()
    assert not moved[:, :, :3].any()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_places_that_are_nowhere_are_black(interpolation: str, bad: float) -> None:
    matrix = np.array([[1, 0, bad, 0, 1, 0, 1, 0, 1]] * len(IMAGES), np.float32)

    assert not warp(IMAGES, matrix, interpolation=interpolation).any()


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels_moves_alike(channels: int) -> None:
    images = IMAGES[..., :1].repeat(channels, axis=3)
    matrices = _matrices()

    for interpolation in ("nearest", "bilinear"):
        result = warp(images, matrices, interpolation=interpolation)

        of_three = warp(IMAGES, matrices, interpolation=interpolation)
        assert (result == of_three[..., :1]).all()
