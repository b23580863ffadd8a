import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from hypothesis import given, settings
from hypothesis import strategies as st

from rayft.errors import SpecError
from rayft.spec.augment import (
    AugmentSpec,
    RandAugment,
    RandomErasing,
    TrivialAugment,
    without_effect_on_grey,
)
from rayft.spec.augment_motion import (
    Affine,
    HorizontalFlip,
    Perspective,
    RandomCrop,
    RandomResizedCrop,
    Rotation,
    VerticalFlip,
)
from rayft.spec.augment_tone import (
    AutoContrast,
    ColorJitter,
    Equalize,
    GaussianBlur,
    Grayscale,
    Invert,
    Posterize,
    Sharpness,
    Solarize,
)
from rayft.transforms.augment import center_crop, make_augmentation
from rayft.transforms.operation import row_blocks

FLIP = HorizontalFlip(kind="horizontal_flip")
RESIZED_CROP = RandomResizedCrop(kind="random_resized_crop")
OPERATIONS: tuple[AugmentSpec, ...] = (
    FLIP,
    VerticalFlip(kind="vertical_flip"),
    RandomCrop(kind="random_crop", padding=2),
    RandomCrop(kind="random_crop", padding=3, padding_mode="reflect"),
    RESIZED_CROP,
    Rotation(kind="rotation", degrees=30),
    ColorJitter(kind="color_jitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    Affine(kind="affine", degrees=20, translate=(0.1, 0.1), scale=(0.8, 1.2), shear=(9, 9)),
    Affine(kind="affine", degrees=20, interpolation="bilinear"),
    Perspective(kind="perspective"),
    Perspective(kind="perspective", interpolation="nearest"),
    Grayscale(kind="grayscale", probability=0.5),
    Invert(kind="invert"),
    Posterize(kind="posterize", bits=3),
    Solarize(kind="solarize", threshold=128),
    AutoContrast(kind="autocontrast"),
    Equalize(kind="equalize"),
    Sharpness(kind="sharpness", factor=2.0),
    GaussianBlur(kind="gaussian_blur", kernel_size=5, probability=0.5),
    RandomErasing(kind="random_erasing"),
    RandomErasing(kind="random_erasing", value="random"),
    TrivialAugment(kind="trivial_augment"),
    RandAugment(kind="rand_augment", interpolation="bilinear"),
)


@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("threads", [1, 2])
@settings(max_examples=12, deadline=None)
@given(data=st.data(), size=st.sampled_from([7, 16, 33]))
def test_an_operation_gives_a_row_the_same_bytes_alone_and_in_any_batch(
    spec: AugmentSpec, threads: int, data: st.DataObject, size: int
) -> None:
    _check_that_batches_do_not_matter((spec,), threads, data, size)


@pytest.mark.parametrize("threads", [1, 2])
@settings(max_examples=25, deadline=None)
@given(
    data=st.data(),
    specs=st.lists(st.sampled_from(OPERATIONS), min_size=2, max_size=5),
    size=st.sampled_from([7, 16, 33]),
)
def test_a_list_of_operations_gives_a_row_the_same_bytes_alone_and_in_any_batch(
    threads: int, data: st.DataObject, specs: list[AugmentSpec], size: int
) -> None:
    _check_that_batches_do_not_matter(tuple(specs), threads, data, size)


@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec.kind)
def test_a_batch_of_many_blocks_has_the_bytes_of_its_rows(spec: AugmentSpec) -> None:
    images = _images(101, 32)
    augment = make_augmentation((spec,), image_size=32, seed=1)
    ids = np.arange(101)

    with _torch_threads(2):
        together = augment(images, ids, epoch=0)
    with _torch_threads(1):
        alone = [augment(images[[row]], ids[[row]], epoch=0)[0] for row in ids]

    assert len(list(row_blocks(images))) > 2
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec.kind)
def test_stored_images_may_be_read_only_and_stay_as_they_are(spec: AugmentSpec) -> None:
    images = _images(9, 16)
    before = images.copy()
    images.flags.writeable = False

    result = make_augmentation((spec,), image_size=16, seed=0)(images, np.arange(9), epoch=0)

    assert result.shape == images.shape
    assert not np.shares_memory(result, images)
    assert not np.array_equal(result, before)
    assert np.array_equal(images, before)


@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec.kind)
def test_a_view_of_larger_images_counts_as_the_images_it_shows(spec: AugmentSpec) -> None:
    view = center_crop(_images(9, 24), 16)
    augment = make_augmentation((spec,), image_size=16, seed=0)

    result = augment(view, np.arange(9), epoch=0)

    assert np.array_equal(result, augment(view.copy(), np.arange(9), epoch=0))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("specs", [OPERATIONS, (FLIP,), ()], ids=len)
def test_images_loaded_a_few_at_a_time_in_threads_give_the_same_bytes(
    specs: tuple[AugmentSpec, ...], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayft.transforms.blocks._BYTES_PER_BLOCK", 4 * 3 * 24 * 24)
    images, ids = _images(37, 24), np.arange(37) * 5
    augment = make_augmentation(specs, image_size=24, seed=2)
    loaded: list[slice] = []

    def load(rows: slice) -> np.ndarray:
        loaded.append(rows)
        return images[rows]

    result = augment.of_loaded(load, ids, epoch=3, threads=threads)

    assert np.array_equal(result, augment(images, ids, epoch=3))
    assert sorted(row for rows in loaded for row in range(37)[rows]) == list(range(37))
    assert max(rows.stop - rows.start for rows in loaded) <= 4


def test_loaded_images_of_another_size_are_refused() -> None:
    augment = make_augmentation((FLIP,), image_size=8, seed=0)

    with pytest.raises(ValueError, match="images are 9 x 9 pixels, but without a random_resized"):
        augment.of_loaded(_images(4, 9).__getitem__, np.arange(4), epoch=0, threads=2)


def test_no_rows_are_loaded_for_an_empty_batch() -> None:
    augment = make_augmentation((RESIZED_CROP,), image_size=14, seed=0)

    result = augment.of_loaded(lambda rows: _images(0, 16), np.arange(0), epoch=0, threads=2)

    assert result.shape == (0, 14, 14, 3)


_COUNT_THREADS = """
import numpy as np, torch
from pathlib import Path
from tests.unit.transforms.test_augment import OPERATIONS, make_augmentation
torch.set_num_threads(4)
images = np.random.default_rng(0).integers(0, 256, (24, 224, 224, 3), dtype=np.uint8)
before = len(list(Path("/proc/self/task").iterdir()))
make_augmentation(OPERATIONS, image_size=224, seed=0)(images, np.arange(24), epoch=0)
print(len(list(Path("/proc/self/task").iterdir())) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_no_operation_shares_its_work_out_to_torchs_threads() -> None:
    found = subprocess.run(
        [sys.executable, "-c", _COUNT_THREADS], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "0"


def test_seed_epoch_and_row_each_change_the_augmentation() -> None:
    images = _images(1, 16).repeat(64, axis=0)
    ids = np.arange(64)
    base = make_augmentation(OPERATIONS[:2], image_size=16, seed=0)(images, ids, epoch=0)

    other_seed = make_augmentation(OPERATIONS[:2], image_size=16, seed=1)(images, ids, epoch=0)
    other_epoch = make_augmentation(OPERATIONS[:2], image_size=16, seed=0)(images, ids, epoch=1)

    for other in (other_seed, other_epoch, base[::-1]):
        share_unchanged = (other == base).all(axis=(1, 2, 3)).mean()
        assert 0.05 < share_unchanged < 0.5  # a quarter, of 64 rows


def test_two_equal_operations_in_one_list_draw_differently() -> None:
    images = _images(200, 8)

    result = make_augmentation((FLIP, FLIP), image_size=8, seed=0)(images, np.arange(200), epoch=0)

    share_unchanged = (result == images).all(axis=(1, 2, 3)).mean()
    assert 0.35 < share_unchanged < 0.65


def test_operations_see_the_stored_size_until_the_first_resized_crop() -> None:
    specs = (FLIP, RESIZED_CROP, FLIP, RESIZED_CROP)
    augment = make_augmentation(specs, image_size=28, seed=0)

    sizes = [_images(5, 32).shape]
    images = _images(5, 32)
    for operation in augment.operations:
        images = operation(images, np.full((5, operation.num_draws), 0.4))
        sizes.append(images.shape)

    assert [shape[1] for shape in sizes] == [32, 32, 28, 28, 28]
    assert augment(_images(5, 32), np.arange(5), epoch=0).shape == (5, 28, 28, 3)


def test_an_empty_list_gives_the_stored_images_themselves() -> None:
    images = _images(3, 8)

    assert make_augmentation((), image_size=8, seed=0)(images, np.arange(3), epoch=0) is images


@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec.kind)
def test_a_batch_without_rows_stays_a_batch(spec: AugmentSpec) -> None:
    augment = make_augmentation((RESIZED_CROP, spec), image_size=14, seed=0)

    result = augment(_images(0, 16), np.arange(0), epoch=0)

    assert result.shape == (0, 14, 14, 3)
    assert result.dtype == np.uint8


@pytest.mark.parametrize(
    ("images", "num_ids", "message"),
    [
        (np.zeros((2, 9, 8, 3), np.uint8), 2, "images are 9 x 8 pixels, but without a random_res"),
        (np.zeros((2, 8, 8, 3), np.float32), 2, "must be uint8 .B, H, W, C., got float32"),
        (np.zeros((8, 8, 3), np.uint8), 8, r"must be uint8 .B, H, W, C., got uint8 \[8, 8, 3\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), 3, r"2 images need as many ids, got \[3\]"),
    ],
)
def test_batches_that_do_not_fit_are_refused(
    images: np.ndarray, num_ids: int, message: str
) -> None:
    augment = make_augmentation((FLIP,), image_size=8, seed=0)

    with pytest.raises(ValueError, match=message):
        augment(images, np.arange(num_ids), epoch=0)


def test_padding_that_an_image_cannot_mirror_is_refused_with_its_place() -> None:
    wide = RandomCrop(kind="random_crop", padding=8, padding_mode="reflect")

    with pytest.raises(SpecError) as caught:
        make_augmentation((FLIP, wide), image_size=8, seed=0)

    assert str(caught.value) == (
        "augment.1.padding: 8 pixels cannot be mirrored from an image of 8 pixels\n"
        "  fix: set it to 7 or less, or set padding_mode to constant"
    )


def test_a_kernel_that_reaches_beyond_an_image_is_refused_with_its_place() -> None:
    blur = GaussianBlur(kind="gaussian_blur", kernel_size=17)

    with pytest.raises(SpecError) as caught:
        make_augmentation((FLIP, blur), image_size=8, seed=0)

    assert str(caught.value) == (
        "augment.1.kernel_size: half of 17 pixels cannot be mirrored from an image of 8 pixels\n"
        "  fix: set it to 15 or less"
    )
    make_augmentation((GaussianBlur(kind="gaussian_blur", kernel_size=15),), image_size=8, seed=0)


def test_what_leaves_grey_images_alone_is_known() -> None:
    found = [without_effect_on_grey(spec) for spec in OPERATIONS]

    assert [name for name in found if name] == ["color_jitter.saturation", "grayscale"]
    hue = ColorJitter(kind="color_jitter", hue=0.1, brightness=0.2)
    assert without_effect_on_grey(hue) == "color_jitter.hue"
    assert without_effect_on_grey(ColorJitter(kind="color_jitter", contrast=0.2)) is None


@pytest.mark.parametrize(("height", "width", "size"), [(9, 12, 8), (11, 8, 8), (13, 15, 8)])
def test_the_middle_is_where_torchvision_finds_it_and_is_not_copied(
    height: int, width: int, size: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)

    middle = center_crop(images, size)

    expected = tv.center_crop(torch.from_numpy(images).permute(0, 3, 1, 2), [size, size])
    assert np.array_equal(middle, expected.permute(0, 2, 3, 1).numpy())
    assert np.shares_memory(middle, images)


def test_images_smaller_than_the_middle_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot cut 8 x 8 pixels from images of 7 x 9"):
        center_crop(np.zeros((1, 7, 9, 3), np.uint8), 8)


def _check_that_batches_do_not_matter(
    specs: tuple[AugmentSpec, ...], threads: int, data: st.DataObject, size: int
) -> None:
    num_rows = data.draw(st.integers(1, 9), label="rows")
    ids = np.array(data.draw(st.permutations(range(num_rows)), label="ids")) + 2**33
    cut = data.draw(st.integers(0, num_rows), label="cut")
    epoch = data.draw(st.integers(0, 99), label="epoch")
    images = _images(num_rows, size)
    augment = make_augmentation(specs, image_size=size, seed=3)

    with _torch_threads(threads):
        together = augment(images, ids, epoch=epoch)
        halves = [augment(images[part], ids[part], epoch=epoch) for part in _parts(cut)]
    with _torch_threads(1):
        alone = [augment(images[[row]], ids[[row]], epoch=epoch) for row in range(num_rows)]

    assert np.array_equal(together, np.concatenate(halves))
    assert np.array_equal(together, np.concatenate(alone))


def _parts(cut: int) -> tuple[slice, slice]:
    return slice(0, cut), slice(cut, None)


def _images(num_rows: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_rows, size, size, 3), dtype=np.uint8)


@contextmanager
def _torch_threads(num: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)
