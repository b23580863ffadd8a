"""Tickets: which rows a worker takes in which step. A run is one ordered stream of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rayft.feed.order import Ids, order_of_epoch
from rayft.plan.run_plan import PhasePlan, RunPlan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ticket:
    """The rows of one virtual shard of one step."""

    phase: int
    epoch: int
    """Number of the epoch in the whole run; augmentation is drawn from it."""
    step: int
    """Step inside the phase, from 0."""
    shard: int
    """Virtual shard inside the step, from 0."""
    row_ids: Ids
    """[n] rows to load, n >= 1; those from `num_rows` on only fill the shape and weigh 0."""
    num_rows: int
    """Rows that count; 0 in a shard that a short step leaves empty."""


def training_tickets(
    plan: RunPlan, phase: PhasePlan, row_ids: Ids, *, rank: int, start_step: int = 0
) -> Iterator[tuple[Ticket, ...]]:
    """Yield, step by step, the tickets that worker `rank` walks in a phase.

    Args:
        plan: the run.
        phase: one of its phases.
        row_ids: [N] ids of the training split, ascending.
        rank: the worker, from 0.
        start_step: step inside the phase to begin at; going on is as exact as starting.
    """
    least = 1 if plan.spec.batch_norm == "pretrained" else 2
    order, order_of = row_ids, -1
    for step in range(start_step, phase.num_steps):
        epoch_in_phase, step_in_epoch = divmod(step, plan.steps_per_epoch)
        epoch = phase.first_epoch + epoch_in_phase
        if epoch != order_of:
            order_of, seed = epoch, plan.spec.seed
            order = order_of_epoch(row_ids, seed=seed, epoch=epoch, order=plan.order)
        rows = order[plan.rows_of_step(step_in_epoch)]
        yield tuple(
            Ticket(
                phase=phase.index,
                epoch=epoch,
                step=step,
                shard=shard,
                row_ids=_fill(mine := rows[plan.batches.slice_of(shard, len(rows))], rows, least),
                num_rows=len(mine),
            )
            for shard in plan.batches.shards_of(rank)
        )


def evaluation_tickets(
    row_ids: Ids, *, rows_per_batch: int, rank: int, world_size: int
) -> Iterator[Ticket]:
    """Yield the batches of an evaluation that fall to worker `rank`: every row once over all.

    Batches are cut before they are dealt out, and all have one shape, so a row meets the same
    arithmetic on any number of workers.
    """
    starts = range(0, len(row_ids), rows_per_batch)
    for index, start in enumerate(starts):
        if index % world_size == rank:
            mine = row_ids[start : start + rows_per_batch]
            yield Ticket(
                phase=0,
                epoch=0,
                step=index,
                shard=0,
                row_ids=_fill(mine, mine, rows_per_batch),
                num_rows=len(mine),
            )


def _fill(mine: Ids, rows: Ids, least: int) -> Ids:
    """Lengthen `mine` to at least `least` rows with others that will weigh 0."""
    missing = least - len(mine)
    return mine if missing <= 0 else np.concatenate([mine, np.resize(rows, missing)])
