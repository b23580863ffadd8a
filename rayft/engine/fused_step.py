"""One step of all members of a stack: forward, backward, and every member's own move."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rayft.engine.placing import DeviceBatch, place
from rayft.engine.run import Run
from rayft.engine.stack import Stack
from rayft.engine.step import StepResult
from rayft.errors import TrainingError
from rayft.feed.prepare import Batch


def fused_step(stack: Stack, batches: Mapping[int, Sequence[Batch]]) -> StepResult:
    """Take the step that `batches` belong to.

    A member that cannot go on has its error noted, and no other is touched by it.

    Args:
        stack: the members.
        batches: the shards of the step, by the seed of the members that see them.

    Returns:
        The sum of losses of each member [K].
    """
    run, phase = stack.members[0].run, stack.phases[0]
    first = next(iter(batches.values()))[0]
    step = first.ticket.step
    rows = run.plan.rows_of_step(step % run.plan.steps_per_epoch)
    num_rows = rows.stop - rows.start
    loss_sums = torch.zeros(len(stack.members), device=run.device.device)
    for shards in zip(*batches.values(), strict=True):
        placed = dict(zip(batches, [_place(run, batch) for batch in shards], strict=True))
        losses = stack.losses(
            placed,
            {seed: features_of(run, batch) for seed, batch in placed.items()},
            step=phase.first_step + step,
            shard=shards[0].ticket.shard,
        )
        (losses.sum() * (1.0 / num_rows)).backward()
        loss_sums += losses.detach()
    _move(stack, step)
    return StepResult(loss_sum=loss_sums, num_rows=num_rows)


def _place(run: Run, batch: Batch) -> DeviceBatch:
    return place(batch, device=run.device, backbone=run.model.backbone)


@torch.no_grad()
def features_of(run: Run, placed: DeviceBatch) -> Tensor:
    """Return the features [n, D] of rows, which are there already where the backbone was kept."""
    with run.device.autocast():
        features: Tensor = run.model.backbone(placed.inputs, placed.cut)
    return features


def _move(stack: Stack, step: int) -> None:
    """Apply the gradients of all members, those left out that are not finite."""
    optimizer = stack.optimizer
    norms = optimizer.gradient_norms()
    finite: list[bool] = torch.isfinite(norms).tolist()
    factors = [phase.schedule.factor(step) for phase in stack.phases]
    for member, phase, is_finite, factor in zip(
        stack.members, stack.phases, finite, factors, strict=True
    ):
        policy = member.run.policies.non_finite
        if is_finite and not policy.num_in_a_row:
            continue
        try:
            policy.take(
                finite=is_finite,
                where=f"phase {phase.name}, step {step + 1} of {phase.num_steps}",
                lr=max(rule.lr for rule in phase.ledger.groups) * factor,
            )
        except TrainingError as error:
            member.error = error
    clip = stack.members[0].run.plan.spec.gradient_clip
    if clip is not None:
        optimizer.clip(norms, clip)
    optimizer.step(factors, moves=finite)
    optimizer.forget_gradients()
