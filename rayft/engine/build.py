"""Put a run together on one worker."""

from collections.abc import Mapping
from typing import cast

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor

from rayft.engine.checkpoint_reading import Checkpoint, read_checkpoint
from rayft.engine.device import Device
from rayft.engine.policies import Policies
from rayft.engine.ports import Json
from rayft.engine.run import Ports, Run
from rayft.models.model import FineTuneModel, make_model
from rayft.models.weights import LoadedWeights, load_weights
from rayft.objectives.objective import make_objective
from rayft.optim.ema import WeightAverage
from rayft.plan.run_plan import RunPlan


def new_model(plan: RunPlan) -> FineTuneModel:
    """Return the model of a run with the random weights that follow from its seed."""
    return make_model(
        plan.spec.model,
        num_classes=len(plan.data.classes),
        seed=plan.spec.seed,
        image_size=plan.model.image_size,
        channels=plan.model.channels,
    )


def make_run(
    plan: RunPlan,
    *,
    data_fingerprint: str,
    weights: LoadedWeights | None,
    device: torch.device,
    ports: Ports,
) -> Run:
    """Build the model and everything around it; take up the newest checkpoint where there is one.

    Raises:
        CheckpointError: all checkpoints are damaged, or the data changed.
    """
    torch.set_num_threads(plan.resources.threads_per_worker)
    model = new_model(plan)
    if weights is not None:
        load_weights(model, weights, classes=plan.data.classes)
    if plan.spec.batch_norm == "sync" and ports.ranks.world_size > 1:
        model = synchronize_batch_norm(model)
    return run_of_model(plan, model, data_fingerprint=data_fingerprint, device=device, ports=ports)


def run_of_model(
    plan: RunPlan,
    model: FineTuneModel,
    *,
    data_fingerprint: str,
    device: torch.device,
    ports: Ports,
) -> Run:
    """Build everything around a model; take up the newest checkpoint where there is one.

    Raises:
        CheckpointError: all checkpoints are damaged, or the data changed.
    """
    where = Device.of_run(plan, device)
    where.place(model)
    ema = plan.spec.ema
    run = Run(
        plan=plan,
        data_fingerprint=data_fingerprint,
        model=model,
        objective=make_objective(plan.spec.model, class_weights=plan.class_weights).to(device),
        device=where,
        ports=ports,
        policies=Policies(plan),
        average=WeightAverage(model, decay=ema.decay) if ema else None,
        anchors=_anchors(plan, model),
    )
    _resume(run)
    return run


def _anchors(plan: RunPlan, model: FineTuneModel) -> dict[str, Tensor]:
    """Return copies of the backbone's weights as they are now, where they are to decay to them."""
    if plan.spec.optimizer.decay_towards == "zero":
        return {}
    return {
        name: param.detach().clone()
        for name, param in model.named_parameters()
        if name.startswith("backbone.")
    }


def synchronize_batch_norm(model: FineTuneModel) -> FineTuneModel:
    """Replace every batch norm by one whose statistics are those of the global batch.

    timm's converter also knows its own fused norm-and-activation layers, which torch's would turn
    into plain norms.
    """
    return cast(FineTuneModel, convert_sync_batchnorm(model))


def _resume(run: Run) -> None:
    """Let rank 0 choose the newest checkpoint that verifies, and all ranks take it up."""
    name = ""
    if run.ranks.rank == 0:
        run.checkpoints.clean()
        name = run.checkpoints.newest(on_damaged=lambda *found: _tell(run, *found)) or ""
    name = run.ranks.broadcast_text(name)
    if not name:
        return
    checkpoint = read_checkpoint(run.checkpoints.place / name)
    run.restore(checkpoint)
    if run.ranks.rank == 0:
        run.checkpoints.set_best(run.policies.best.name)
        run.events.emit("resumed", {"name": name, "steps_done": run.position.steps_done})
        _tell_of_rows(run, checkpoint)


def _tell_of_rows(run: Run, checkpoint: Checkpoint) -> None:
    """Tell where micro-batches may have another shape from here on: last bits depend on it."""
    now = run.plan.max_rows_per_device
    before = checkpoint.manifest.get("rows_per_device", now)
    if before != now:
        values: dict[str, Json] = {"setting": "rows_per_device", "before": before, "now": now}
        run.events.emit("changed", values)


def _tell(run: Run, name: str, problem: str) -> None:
    run.events.emit("damaged", {"name": name, "problem": problem})


def load_evaluated_weights(
    model: FineTuneModel, tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Load a checkpoint's weights, with the averages in their place where there are any."""
    weights = dict(tensors["model"])
    average = tensors.get("average", {})
    weights.update({name: value for name, value in average.items() if name in weights})
    model.load_state_dict(weights)
