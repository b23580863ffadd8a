"""The operations on tensors give the bytes of those on arrays: the table in docs/how-to/augment.md.

Here on the device `cpu`; tests/gpu/test_augment.py asks the same of a GPU.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from rayft.spec.augment import AugmentSpec
from rayft.spec.augment_motion import RandomResizedCrop
from rayft.spec.augment_tone import ColorJitter
from rayft.transforms.augment import make_augmentation
from rayft.transforms.blend import blend_colors
from rayft.transforms.resize import resize_boxes
from rayft.transforms.resized_crop import CropAndResizeRandomly
from tests.unit.transforms.on_device import NUM_ROWS, check_a_list, check_mixing, pictures
from tests.unit.transforms.test_augment import FLIP, OPERATIONS, RESIZED_CROP

PAGE = Path("docs/how-to/augment.md")


def ids_of(spec: AugmentSpec) -> str:
    return spec.kind


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("spec", OPERATIONS, ids=ids_of)
def test_every_operation_gives_the_same_bytes(spec: AugmentSpec) -> None:
    check_a_list((spec,), "cpu", image_size=33, stored_size=33)


def test_a_list_that_begins_with_larger_images_gives_the_same_bytes() -> None:
    check_a_list((FLIP, RESIZED_CROP, *OPERATIONS[5:9]), "cpu", image_size=24, stored_size=28)


def test_an_empty_list_gives_the_tensor_itself() -> None:
    stored = torch.from_numpy(pictures(8))

    augment = make_augmentation((), image_size=8, seed=0)

    assert augment.of_tensor(stored, np.arange(NUM_ROWS), epoch=0) is stored


def test_a_batch_without_rows_stays_a_batch() -> None:
    augment = make_augmentation((RESIZED_CROP,), image_size=14, seed=0)

    result = augment.of_tensor(
        torch.zeros((0, 16, 16, 3), dtype=torch.uint8), np.arange(0), epoch=0
    )

    assert result.shape == (0, 14, 14, 3)
    assert result.dtype == torch.uint8


def test_mixing_gives_the_same_bytes_and_shares() -> None:
    check_mixing("cpu")


def test_mixing_widens_a_part_of_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 7 * 17 * 17 * 3
    monkeypatch.setattr("rayft.transforms.mix.VALUES_ON_DEVICE", most)

    with WidestTensor() as widest:
        check_mixing("cpu")

    assert widest.num_values == most


class WidestTensor(TorchDispatchMode):
    """Knows how many values the largest tensor had that was made of more than bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.num_values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.element_size() > 1:
            self.num_values = max(self.num_values, made.numel())
        return made


def test_every_kind_of_the_list_is_tested_and_in_the_table_of_the_page() -> None:
    kinds = {
        get_args(member.model_fields["kind"].annotation)[0]
        for member in get_args(get_args(AugmentSpec)[0])
    }
    table = PAGE.read_text().partition("## On the device")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]

    named = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in rows))

    assert {spec.kind for spec in OPERATIONS} == kinds
    assert sorted(named) == sorted(kinds | {"mixup", "cutmix"})
    assert {row.split("|")[3].strip() for row in rows} == {"none"}


@pytest.mark.parametrize("spec", OPERATIONS, ids=ids_of)
def test_a_row_has_the_same_bytes_alone_and_in_parts_of_a_batch(
    spec: AugmentSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    augment = make_augmentation((spec,), image_size=16, seed=4)
    stored, ids = torch.from_numpy(pictures(16)), np.arange(NUM_ROWS)
    whole = augment.of_tensor(stored, ids, epoch=1)

    monkeypatch.setattr("rayft.transforms.augment.VALUES_ON_DEVICE", 7 * stored[0].numel())
    parts = augment.of_tensor(stored, ids, epoch=1)
    alone = [augment.of_tensor(stored[row : row + 1], ids[[row]], epoch=1) for row in ids[2:12]]

    assert torch.equal(parts, whole)
    assert torch.equal(torch.cat(alone), whole[2:12])


@pytest.mark.parametrize(
    ("scale", "ratio", "size"),
    [
        ((0.01, 0.05), (0.2, 5.0), 24),
        ((0.5, 1.0), (0.75, 4 / 3), 24),
        ((0.3, 1.0), (0.9, 1.1), 7),
        ((0.9, 1.0), (1.0, 1.0), 1),
    ],
)
def test_boxes_of_all_sizes_are_resized_to_the_same_bytes(
    scale: tuple[float, float], ratio: tuple[float, float], size: int
) -> None:
    spec = RandomResizedCrop(kind="random_resized_crop", scale=scale, ratio=ratio)

    check_a_list((spec,), "cpu", image_size=size, stored_size=75)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(1, 40))
def test_any_box_is_resized_to_the_same_bytes(data: st.DataObject, size: int) -> None:
    images = pictures(41)[2:8]
    crop = CropAndResizeRandomly((1.0, 1.0), (1.0, 1.0), size)
    sizes = st.integers(1, 41)
    boxes = np.array([(0, 0, *data.draw(st.tuples(sizes, sizes))) for _ in images])

    found = resize_boxes(torch.from_numpy(images), boxes, size=size)

    for image, (_, _, height, width), row in zip(images, boxes, found.numpy(), strict=True):
        assert np.array_equal(row, crop._resize(image[:height, :width]))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), most=st.sampled_from([2.0, 4.0, 9.0]))
def test_any_factors_of_colour_give_the_same_bytes(data: st.DataObject, most: float) -> None:
    images = pictures(19)[::5]
    factor = st.one_of(st.floats(0, most), st.sampled_from([0.0, 1.0, 2.0]))
    factors = np.array([data.draw(st.tuples(factor, factor, factor)) for _ in images])

    found = blend_colors(torch.from_numpy(images), factors)

    assert np.array_equal(found.numpy(), blend_colors(images, factors))


def test_tensors_that_do_not_fit_are_refused() -> None:
    augment = make_augmentation((FLIP,), image_size=8, seed=0)

    with pytest.raises(ValueError, match="images are 9 x 9 pixels, but without a random_resized"):
        augment.of_tensor(torch.zeros((2, 9, 9, 3), dtype=torch.uint8), np.arange(2), epoch=0)
    with pytest.raises(ValueError, match=r"must be uint8 .B, H, W, C., got torch.float32"):
        augment.of_tensor(torch.zeros((2, 8, 8, 3)), np.arange(2), epoch=0)
    with pytest.raises(ValueError, match=r"2 images need as many ids, got \[3\]"):
        augment.of_tensor(torch.zeros((2, 8, 8, 3), dtype=torch.uint8), np.arange(3), epoch=0)
    grey = torch.zeros((2, 8, 8, 1), dtype=torch.uint8)
    jitter = ColorJitter(kind="color_jitter", hue=0.1)
    with pytest.raises(ValueError, match="color_jitter needs RGB images, got 1 channels"):
        make_augmentation((jitter,), image_size=8, seed=0).of_tensor(grey, np.arange(2), epoch=0)
