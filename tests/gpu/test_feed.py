"""Batches on their way to the GPU: made ahead, pinned, copied while the next is made."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rayft.data.prepare import PreparedDataset
from rayft.engine.device import Device
from rayft.feed.feed import InProcessFeed
from rayft.feed.prepare import Batch
from rayft.plan.run_plan import RunPlan
from rayft.store.dataset import open_dataset
from tests.gpu.harness import DEVICE, plan_on_device, spec_on_device
from tests.gpu.marks import ON_CUDA

pytestmark = ON_CUDA


def _on_cpu(plan: RunPlan) -> RunPlan:
    return replace(plan, resources=replace(plan.resources, device="cpu"))


def _batches(plan: RunPlan, prepared: PreparedDataset) -> list[Batch]:
    feed = InProcessFeed(plan, open_dataset(prepared.ref), rank=0)
    with ExitStack() as stack:
        training = [
            stack.enter_context(feed.training(phase, start_step=0)) for phase in plan.phases
        ]
        evaluation = stack.enter_context(feed.evaluation("validation"))
        return [
            *(batch for steps in training for shards in steps for batch in shards),
            *evaluation,
        ]


@pytest.fixture
def plan(prepared: PreparedDataset) -> RunPlan:
    return plan_on_device(spec_on_device(), prepared)


def test_batches_made_ahead_are_those_made_when_asked(
    plan: RunPlan, prepared: PreparedDataset
) -> None:
    ahead, asked = _batches(plan, prepared), _batches(_on_cpu(plan), prepared)

    assert len(ahead) == len(asked) > 12
    for one, other in zip(ahead, asked, strict=True):
        assert one.images is not None
        assert other.images is not None
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.ticket.row_ids, other.ticket.row_ids)


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_pinned_batches_arrive_as_they_were_sent(
    prepared: PreparedDataset, memory_format: str
) -> None:
    plan = plan_on_device(spec_on_device(memory_format=memory_format), prepared)
    device, host = (
        Device.of_run(plan, torch.device(DEVICE)),
        Device.of_run(plan, torch.device("cpu")),
    )
    batches = _batches(plan, prepared)

    # All at once, without waiting for the device: pinned memory is taken again while copies run.
    placed = [device.images(images) for images in _images(batches)]
    torch.cuda.synchronize()

    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    for images, sent in zip(_images(batches), placed, strict=True):
        expected = host.images(images)
        assert sent.is_cuda
        assert sent.is_contiguous(memory_format=layout)
        # The device may multiply and add in one rounding.
        torch.testing.assert_close(sent.cpu(), expected, atol=2e-6, rtol=1e-6)
    for batch in batches:
        for here, there in (
            (host.targets(batch.labels, None).labels, device.targets(batch.labels, None).labels),
            (host.weights(batch), device.weights(batch)),
        ):
            assert torch.equal(here, there.cpu())


def _images(batches: list[Batch]) -> list[NDArray[np.uint8]]:
    return [batch.images for batch in batches if batch.images is not None]
