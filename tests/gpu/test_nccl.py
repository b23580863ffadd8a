"""What runs through NCCL, in a group of one rank: gathering, DDP, synchronised batch norm."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rayft.data.prepare import PreparedDataset
from rayft.engine.build import synchronize_batch_norm
from rayft.engine.loop import train
from rayft.engine.ranks import DistributedRanks
from rayft.engine.reduce import LocalReduce, MeanReduce
from rayft.models.model import make_model
from tests.gpu.harness import DEVICE, plan_on_device, spec_on_device, start_run
from tests.gpu.marks import ON_CUDA
from tests.laws.harness import SIZE, Recorder

pytestmark = [
    *ON_CUDA,
    pytest.mark.usefixtures("nccl"),
    # torch warns of what is right here: nothing is unused, and the group names no device.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(0,), (5,), (4, 3)])
def test_rows_are_gathered_over_the_device(dtype: type, shape: tuple[int, ...]) -> None:
    rows = np.arange(np.prod(shape)).reshape(shape).astype(dtype)

    gathered = DistributedRanks(torch.device(DEVICE)).gather(rows)

    assert gathered.dtype == rows.dtype
    assert np.array_equal(gathered, rows)


@pytest.mark.parametrize("text", ["", "step-0000000012", "Prüfung"])
def test_text_is_sent_over_the_device(text: str) -> None:
    assert DistributedRanks(torch.device(DEVICE)).broadcast_text(text) == text


def test_a_run_whose_ranks_meet_over_the_device_trains(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    spec = spec_on_device(batch_norm="sync", precision="bf16")
    events = Recorder()

    run = start_run(
        plan_on_device(spec, prepared),
        prepared,
        tmp_path,
        events=events,
        ranks=DistributedRanks(torch.device(DEVICE)),
    )
    train(run)

    kinds = [event["kind"] for event in events.events]
    assert kinds.count("epoch") == kinds.count("checkpoint") == 3
    assert run.position.finished(run.plan)


def _network() -> nn.Module:
    spec = spec_on_device()
    return make_model(spec.model, num_classes=3, seed=0).to(DEVICE).train()


def _images() -> torch.Tensor:
    generator = torch.Generator(DEVICE).manual_seed(0)
    return torch.randn(16, 3, SIZE, SIZE, device=DEVICE, generator=generator)


def _assert_same_gradients(one: nn.Module, other: nn.Module) -> None:
    others = dict(other.named_parameters())
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(
            others[name].grad,
            parameter.grad,
            atol=1e-4,
            rtol=1e-3,
            msg=lambda text, n=name: n + text,
        )


def test_synchronised_batch_norm_of_one_rank_is_batch_norm() -> None:
    plain = _network()
    synced = synchronize_batch_norm(deepcopy(plain))
    images = _images()

    expected, found = plain(images)["label"], synced(images)["label"]
    expected.square().sum().backward()
    found.square().sum().backward()

    assert any(isinstance(module, nn.SyncBatchNorm) for module in synced.modules())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    _assert_same_gradients(plain, synced)
    buffers = dict(synced.named_buffers())
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, atol=1e-5, rtol=1e-4)


def test_reducing_over_one_rank_leaves_its_gradient() -> None:
    alone, member = _network(), _network()
    local = LocalReduce(alone)
    mean = MeanReduce(member, world_size=1, sync_buffers=False)
    images = _images()

    for reduce in (local, mean):
        for shard in (0, 1):
            with reduce.shard(last=shard == 1):
                scores = reduce.module(images[8 * shard : 8 * shard + 8])["label"]
                (scores.square().sum() * reduce.loss_scale).backward()
        reduce.finish()

    _assert_same_gradients(alone, member)
