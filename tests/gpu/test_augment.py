"""Augmentation on the GPU: the bytes of the processor's."""

import numpy as np
import pytest
import torch

from rayft.spec.augment import AugmentSpec
from rayft.transforms.augment import make_augmentation
from tests.gpu.harness import DEVICE
from tests.gpu.marks import ON_CUDA
from tests.unit.transforms.on_device import NUM_ROWS, check_a_list, check_mixing, pictures
from tests.unit.transforms.test_augment import FLIP, OPERATIONS, RESIZED_CROP

pytestmark = ON_CUDA


@pytest.mark.parametrize("image_size", [8, 33, 96])
@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec.kind)
def test_every_operation_gives_the_bytes_of_the_processor(
    spec: AugmentSpec, image_size: int
) -> None:
    check_a_list((spec,), f"{DEVICE}:0", image_size=image_size, stored_size=image_size)


def test_a_list_that_begins_with_larger_images_gives_the_bytes_of_the_processor() -> None:
    check_a_list(
        (FLIP, RESIZED_CROP, *OPERATIONS[5:9]), f"{DEVICE}:0", image_size=112, stored_size=128
    )


def test_mixing_gives_the_bytes_of_the_processor() -> None:
    check_mixing(f"{DEVICE}:0")


@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec.kind)
def test_no_operation_waits_for_the_device(spec: AugmentSpec) -> None:
    augment = make_augmentation((spec,), image_size=33, seed=0)
    stored = torch.from_numpy(pictures(33)).to(DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        augment.of_tensor(stored, np.arange(NUM_ROWS), epoch=0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
