import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torchvision.transforms import RandomResizedCrop

from rayft.transforms.resized_crop import CropAndResizeRandomly

Range = tuple[float, float]
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 37, 41, 3), dtype=np.uint8)
DRAWS = np.random.default_rng(1).random((40, CropAndResizeRandomly.num_draws))
STANDARD = CropAndResizeRandomly((0.08, 1.0), (3 / 4, 4 / 3), 32)


@pytest.mark.parametrize("size", [5, 32, 37, 64])
def test_pixels_are_torchvisions_within_one_level(size: int) -> None:
    operation = CropAndResizeRandomly((0.08, 1.0), (3 / 4, 4 / 3), size)
    resized = operation(IMAGES, DRAWS)

    boxes = operation.boxes(DRAWS, height=37, width=41)
    for image, box, result in zip(IMAGES, boxes.tolist(), resized, strict=True):
        chw = torch.from_numpy(image).permute(2, 0, 1)
        expected = tv.resized_crop(chw, *box, [size, size], antialias=True).permute(1, 2, 0)
        assert np.abs(result.astype(int) - expected.numpy()).max() <= 1


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0), (0.35, 0.35), (1e-4, 1e-3)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.2, 5.0), (1.0, 1.0)])
def test_boxes_are_those_torchvision_makes_of_the_same_numbers(
    scale: Range, ratio: Range, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = CropAndResizeRandomly(scale, ratio, 32).boxes(DRAWS, height=37, width=41)

    for draws, box in zip(DRAWS, boxes.tolist(), strict=True):
        assert box == list(_torchvision_box(draws, scale, ratio, monkeypatch))


@pytest.mark.parametrize(
    ("height", "width", "ratio"), [(40, 31, (3.0, 4.0)), (31, 40, (0.2, 0.3)), (9, 100, (0.9, 1.1))]
)
def test_where_no_attempt_fits_the_middle_is_taken_as_torchvision_does(
    height: int, width: int, ratio: tuple[float, float]
) -> None:
    operation = CropAndResizeRandomly((1.0, 1.0), ratio, 32)
    boxes = operation.boxes(DRAWS, height=height, width=width)

    blank = torch.zeros(3, height, width)
    expected = RandomResizedCrop.get_params(blank, [1.0, 1.0], list(ratio))
    assert (boxes == expected).all()


@pytest.mark.parametrize(
    ("ratio", "box"), [((500.0, 600.0), [14, 0, 1, 30]), ((0.001, 0.002), [0, 14, 30, 1])]
)
def test_the_middle_of_an_absurd_ratio_still_has_a_pixel(ratio: Range, box: list[int]) -> None:
    boxes = CropAndResizeRandomly((1.0, 1.0), ratio, 8).boxes(DRAWS, height=30, width=30)

    assert boxes[0].tolist() == box


def test_boxes_lie_inside_at_the_ends_of_the_drawn_range() -> None:
    ends = np.stack([np.zeros(22), np.full(22, 1 - 2.0**-32)])

    top, left, height, width = STANDARD.boxes(ends, height=30, width=37).T

    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 30).all()
    assert (left + width <= 37).all()


def _torchvision_box(
    draws: np.ndarray, scale: Range, ratio: Range, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, ...]:
    """Let torchvision choose a box with `draws` in place of its own random numbers."""
    sizes = iter(draws[:20].reshape(2, 10).T.ravel().tolist())
    places = iter(draws[20:].tolist())

    def uniform(tensor: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return tensor.fill_(low + (high - low) * next(sizes))

    def randint(low: int, high: int, size: tuple[int, ...]) -> torch.Tensor:
        return torch.full(size, int(low + next(places) * (high - low)))

    monkeypatch.setattr(torch.Tensor, "uniform_", uniform)
    monkeypatch.setattr(torch, "randint", randint)
    return RandomResizedCrop.get_params(torch.zeros(3, 37, 41), list(scale), list(ratio))
