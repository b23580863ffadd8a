"""Law 4 on a GPU: frozen means frozen, in every precision and mode of batch norm."""

from pathlib import Path

import pytest
import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.loop import train
from rayft.models.model import make_model
from rayft.optim.modes import set_trainable, set_training_modes
from tests.gpu.harness import DEVICE, plan_on_device, spec_on_device, start_run
from tests.gpu.marks import ON_CUDA
from tests.laws.harness import SIZE, Recorder

pytestmark = ON_CUDA

FROZEN = ("backbone.net.conv_stem", "backbone.net.bn1", "backbone.net.blocks.0")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("batch_norm", ["pretrained", "local"])
def test_frozen_groups_are_bitwise_unchanged(
    prepared: PreparedDataset, tmp_path: Path, precision: str, batch_norm: str
) -> None:
    spec = spec_on_device(precision=precision, batch_norm=batch_norm)
    before = make_model(spec.model, num_classes=3, seed=spec.seed).state_dict()

    run = start_run(plan_on_device(spec, prepared), prepared, tmp_path, events=Recorder())
    train(run)

    after = {name: value.cpu() for name, value in run.model.state_dict().items()}
    moved = [name for name, value in after.items() if not torch.equal(before[name], value)]
    assert any(name.startswith("heads.") for name in moved)
    assert any(name.startswith("backbone.") for name in moved)
    assert any("running_" in name for name in moved) == (batch_norm == "local")
    assert not [name for name in moved if name.startswith(FROZEN)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("batch_norm", ["pretrained", "local"])
def test_frozen_features_do_not_depend_on_the_rows_beside(
    prepared: PreparedDataset, tmp_path: Path, precision: str, batch_norm: str
) -> None:
    spec = spec_on_device(precision=precision, batch_norm=batch_norm)
    plan = plan_on_device(spec, prepared)
    run = start_run(plan, prepared, tmp_path, events=Recorder())
    probe = plan.phases[0].ledger
    set_trainable(run.model, probe)
    set_training_modes(run.model, probe, batch_norm=spec.batch_norm)
    torch.manual_seed(0)
    row, *mates = torch.randn(3, 8, 3, SIZE, SIZE, device=DEVICE)

    with torch.no_grad(), run.device.autocast():
        first, second = (run.model.backbone(torch.cat([row[:1], others[1:]])) for others in mates)

    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1:], second[1:])
