"""One optimizer step: walk the worker's virtual shards, reduce, move the weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rayft.engine.device import shard_seed
from rayft.engine.placing import place
from rayft.engine.reduce import Reduce
from rayft.engine.run import Run
from rayft.feed.prepare import Batch
from rayft.optim.optimizer import set_learning_rates
from rayft.plan.run_plan import PhasePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step did, seen from one worker."""

    loss_sum: Tensor
    """Sum of the losses of this worker's rows."""
    num_rows: int
    """Rows of the whole step, over all workers."""


def train_step(run: Run, reduce: Reduce, phase: PhasePlan, batches: Sequence[Batch]) -> StepResult:
    """Take the step that `batches` belong to.

    Raises:
        TrainingError: the gradients of several steps in a row are not finite.
    """
    optimizer = run.optimizer
    assert optimizer is not None
    step = batches[0].ticket.step
    rows = run.plan.rows_of_step(step % run.plan.steps_per_epoch)
    num_rows = rows.stop - rows.start
    factor = phase.schedule.factor(step)
    set_learning_rates(optimizer, factor)
    loss_sum = torch.zeros((), device=run.device.device)
    for index, batch in enumerate(batches):
        torch.manual_seed(
            shard_seed(run.plan.spec.seed, phase.first_step + step, batch.ticket.shard)
        )
        placed = place(
            batch,
            device=run.device,
            backbone=run.model.backbone,
            image_size=phase.image_size,
        )
        with reduce.shard(last=index + 1 == len(batches)):
            with run.device.autocast():
                scores = reduce.module(placed.inputs, placed.cut)
            loss = run.objective(scores, {"label": placed.targets}, placed.weights)
            (loss * (reduce.loss_scale / num_rows)).backward()
        loss_sum += loss.detach()
    reduce.finish()
    _move_weights(run, phase, step, factor)
    return StepResult(loss_sum=loss_sum, num_rows=num_rows)


def _move_weights(run: Run, phase: PhasePlan, step: int, factor: float) -> None:
    """Apply the reduced gradient, unless it is not finite; all ranks hold the same one."""
    optimizer = run.optimizer
    assert optimizer is not None
    params = [param for group in optimizer.param_groups for param in group["params"]]
    clip = run.plan.spec.gradient_clip
    norm = torch.nn.utils.get_total_norm(
        [param.grad for param in params if param.grad is not None], foreach=True
    )
    finite = bool(torch.isfinite(norm))
    run.policies.non_finite.take(
        finite=finite,
        where=f"phase {phase.name}, step {step + 1} of {phase.num_steps}",
        lr=max(rule.lr for rule in phase.ledger.groups) * factor,
    )
    if finite:
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(params, clip, norm, foreach=True)
        optimizer.step()
        if run.average:
            run.average.update()
    optimizer.zero_grad(set_to_none=True)
