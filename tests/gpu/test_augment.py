"""Augmentation on the GPU: the bytes of the processor's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.device import Device
from rayft.engine.placing import place
from rayft.feed.feed import InProcessFeed
from rayft.models.model import make_model
from rayft.spec.augment import AugmentSpec
from rayft.store.dataset import open_dataset
from rayft.transforms.augment import make_augmentation
from tests.gpu.harness import DEVICE, plan_on_device, spec_on_device
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


def test_batches_are_the_same_wherever_they_are_augmented(prepared: PreparedDataset) -> None:
    augment = [{"kind": "rand_augment"}, {"kind": "random_erasing", "value": "random"}]
    mix = [{"kind": "mixup", "probability": 0.5}, {"kind": "cutmix", "probability": 0.4}]
    placed = []
    for where in ("host", "device"):
        spec = spec_on_device(augment=augment, mix=mix, augment_on=where)
        plan = plan_on_device(spec, prepared)
        device = Device.of_run(plan, torch.device(DEVICE))
        feed = InProcessFeed(plan, open_dataset(prepared.ref), rank=0)
        with feed.training(plan.phases[1], start_step=0) as steps:
            batches = [replace(batch, prefix=None) for shards in steps for batch in shards]
        backbone = make_model(spec.model, num_classes=3, seed=0).backbone
        placed.append([place(batch, device=device, backbone=backbone) for batch in batches])

    for one, other in zip(*placed, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.weights, other.weights)
        for name in ("labels", "partner_labels", "shares"):
            assert torch.equal(getattr(one.targets, name), getattr(other.targets, name)), name


# torch says once that it does not find every wait.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec.kind)
def test_no_operation_waits_for_the_device(spec: AugmentSpec) -> None:
    augment = make_augmentation((spec,), image_size=33, seed=0)
    stored = torch.from_numpy(pictures(33)).to(DEVICE)
    try:
        torch.cuda.set_sync_debug_mode("error")
        augment.of_tensor(stored, np.arange(NUM_ROWS), epoch=0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
