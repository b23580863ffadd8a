"""Augmentation of images that are not RGB."""

import numpy as np
import pytest
import torch

from rayft.spec.augment import AugmentSpec, RandomErasing, needs_colours
from rayft.spec.augment_tone import ColorJitter
from rayft.transforms.augment import make_augmentation
from tests.unit.transforms.test_augment import OPERATIONS

IDS = np.arange(9)
PER_CHANNEL = [spec for spec in OPERATIONS if not needs_colours(spec, channels=5)]
JITTER = ColorJitter(kind="color_jitter", brightness=0.4, contrast=0.4)


def images(channels: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (9, 16, 16, channels), np.uint8)


def augmented(spec: AugmentSpec, stored: np.ndarray) -> np.ndarray:
    return make_augmentation((spec,), image_size=16, seed=1)(stored, IDS, epoch=0)


@pytest.mark.parametrize("spec", PER_CHANNEL, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_each_channel_is_changed_as_if_it_were_alone(spec: AugmentSpec, channels: int) -> None:
    if isinstance(spec, RandomErasing) and spec.value == "random":
        pytest.skip("its noise is drawn for all channels together")
    stored = images(channels)

    changed = augmented(spec, stored)

    for channel in range(channels):
        alone = augmented(spec, stored[..., [channel]])
        assert np.array_equal(changed[..., channel], alone[..., 0])


@pytest.mark.parametrize("spec", PER_CHANNEL, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("channels", [1, 4])
def test_threads_change_no_byte(spec: AugmentSpec, channels: int) -> None:
    stored = images(channels)
    augment = make_augmentation((spec,), image_size=16, seed=1)

    threaded = augment.of_loaded(stored.__getitem__, IDS, epoch=0, threads=2, channels=channels)

    assert np.array_equal(threaded, augmented(spec, stored))


@pytest.mark.parametrize("spec", [*PER_CHANNEL, JITTER], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("channels", [1, 4])
def test_tensors_give_the_same_bytes(spec: AugmentSpec, channels: int) -> None:
    if needs_colours(spec, channels=channels):
        pytest.skip("refused")
    stored = images(channels)
    augment = make_augmentation((spec,), image_size=16, seed=1)

    found = augment.of_tensor(torch.from_numpy(stored), IDS, epoch=0)

    assert np.array_equal(found.numpy(), augmented(spec, stored))


def test_grey_images_change_in_brightness_and_contrast_as_in_rgb() -> None:
    grey = images(1)

    changed = augmented(JITTER, grey)

    assert changed.shape == grey.shape
    assert np.array_equal(changed.repeat(3, axis=3), augmented(JITTER, grey.repeat(3, axis=3)))
    assert not np.array_equal(changed, grey)


@pytest.mark.parametrize("channels", [1, 4, 5])
@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec.kind)
def test_what_needs_colours_is_known_before_it_runs(spec: AugmentSpec, channels: int) -> None:
    """The spec refuses exactly the operations that would fail."""
    if needs_colours(spec, channels=channels):
        with pytest.raises(ValueError, match="needs RGB images"):
            augmented(spec, images(channels))
    else:
        assert augmented(spec, images(channels)).shape == (9, 16, 16, channels)
