"""Checks that tensors on a device become what arrays of numpy become; for any device."""

import numpy as np
import torch
from PIL import Image

from rayft.spec.augment import AugmentSpec
from rayft.spec.mix import Cutmix, Mixup
from rayft.transforms.augment import make_augmentation
from rayft.transforms.mix import Mixing

NUM_ROWS = 40
NUM_EPOCHS = 3


def pictures(size: int, seed: int = 0) -> np.ndarray:
    """Make pictures [40, size, size, 3] with large shapes and fine detail, blacks and whites."""
    random = np.random.default_rng(seed)
    made = []
    for row in range(NUM_ROWS):
        coarse = random.integers(0, 256, (5, 5, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        detail = random.integers(-row, row + 1, (size, size, 3))
        made.append((np.asarray(smooth) * 1.2 - 25 + detail).clip(0, 255).astype(np.uint8))
    made[0][...] = 0
    made[1][...] = 255
    return np.stack(made)


def check_a_list(
    specs: tuple[AugmentSpec, ...], device: str, *, image_size: int, stored_size: int
) -> None:
    """Augment by a list of operations on the device, and compare every byte."""
    augment = make_augmentation(specs, image_size=image_size, seed=11)
    images, ids = pictures(stored_size), np.arange(NUM_ROWS) * 3
    for epoch in range(NUM_EPOCHS):
        stored = torch.from_numpy(images).to(device)

        found = augment.of_tensor(stored, ids, epoch=epoch)

        assert found.device == stored.device
        assert found.dtype == torch.uint8
        assert np.array_equal(found.cpu().numpy(), augment(images, ids, epoch=epoch))
        assert np.array_equal(stored.cpu().numpy(), images)


def check_mixing(device: str) -> None:
    """Put images together on the device, and compare every byte and share."""
    specs = (Mixup(kind="mixup", probability=0.4), Cutmix(kind="cutmix", probability=0.4))
    mixing, ids = Mixing(specs, 5), np.arange(NUM_ROWS)
    images, partners = pictures(17), pictures(17, seed=1)
    expected, expected_shares = mixing(images, partners, ids, epoch=2)

    found, shares = mixing(
        torch.from_numpy(images).to(device), torch.from_numpy(partners).to(device), ids, epoch=2
    )

    assert np.array_equal(found.cpu().numpy(), expected)
    assert np.array_equal(shares, expected_shares)
    assert shares.dtype == expected_shares.dtype
    assert 0.1 < (shares == 1).mean() < 0.4
