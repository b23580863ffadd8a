from itertools import product

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import resize

from rayft.engine.device import Device, shard_seed


@pytest.fixture
def cpu() -> Device:
    return Device(
        torch.device("cpu"),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        precision="fp32",
        memory_format="channels_last",
        test_time=None,
    )


def test_images_are_scaled_as_torchvision_scales_them(cpu: Device) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    pixels = rng.integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)

    found = cpu.images(pixels, image_size=16)

    expected = resize(torch.from_numpy(pixels).permute(0, 3, 1, 2), [16, 16], antialias=True)
    assert found.shape == (3, 3, 16, 16)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal((found * 255).round(), expected.float())


@pytest.mark.parametrize("image_size", [None, 24])
def test_images_of_the_right_size_are_left_alone(cpu: Device, image_size: int | None) -> None:
    pixels = np.full((2, 24, 24, 3), 51, np.uint8)

    found = cpu.images(pixels, image_size=image_size)

    assert torch.allclose(found, torch.full((2, 3, 24, 24), 0.2))


def test_every_step_and_shard_has_a_stream_of_its_own() -> None:
    seeds = {shard_seed(s, t, v) for s, t, v in product(range(4), range(50), range(8))}

    assert len(seeds) == 4 * 50 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_step_and_shard_do_not_stand_for_each_other() -> None:
    assert shard_seed(0, 1, 2) != shard_seed(0, 2, 1)
