"""Tickets: which rows a worker takes in which step. A run is one ordered stream of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rayft.feed.order import Ids, RowViews, order_of_epoch
from rayft.plan.run_plan import PhasePlan, RunPlan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingRows:
    """What the order of the training rows is made from."""

    row_ids: Ids
    """[N] ids, ascending."""
    labels: Ids
    """[N] classes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ticket:
    """The rows of one virtual shard of one step."""

    phase: int
    epoch: int
    """Number of the epoch in the whole run."""
    step: int
    """Step inside the phase, from 0."""
    shard: int
    """Virtual shard inside the step, from 0."""
    row_ids: Ids
    """[n] rows to load, n >= 1; those from `num_rows` on only fill the shape and weigh 0."""
    num_rows: int
    """Rows that count; 0 in a shard that a short step leaves empty."""
    views: Ids
    """[n] which random view of each row is taken."""
    partners: RowViews | None = None
    """[n] another row for each, to be mixed with: its neighbour in the whole step, so that it does
    not matter how rows fall to workers. None in evaluation."""


def training_tickets(
    plan: RunPlan,
    phase: PhasePlan,
    rows: TrainingRows,
    *,
    rank: int,
    start_step: int = 0,
) -> Iterator[tuple[Ticket, ...]]:
    """Yield, step by step, the tickets that worker `rank` walks in a phase.

    Args:
        plan: the run.
        phase: one of its phases.
        rows: those of the training split.
        rank: the worker, from 0.
        start_step: step inside the phase to begin at; going on is as exact as starting.
    """
    order, order_of, seed = None, -1, plan.spec.seed
    for step in range(start_step, phase.num_steps):
        epoch_in_phase, step_in_epoch = divmod(step, plan.steps_per_epoch)
        epoch = phase.first_epoch + epoch_in_phase
        if order is None or epoch != order_of:
            order_of = epoch
            order = order_of_epoch(
                rows.row_ids, rows.labels, seed=seed, epoch=epoch, order=plan.order
            )
            if phase.prefix and phase.prefix.views:
                order = order.in_turn(phase.prefix.views)
        taken = order[plan.rows_of_step(step_in_epoch)]
        yield tuple(
            _ticket(plan, taken, phase=phase.index, step=step, shard=shard, epoch=epoch)
            for shard in plan.batches.shards_of(rank)
        )


def _ticket(
    plan: RunPlan, taken: RowViews, *, phase: int, step: int, shard: int, epoch: int
) -> Ticket:
    """Return the ticket of one shard of the step that takes the rows `taken`."""
    least = 1 if plan.spec.batch_norm == "pretrained" else 2
    num_rows = len(taken.row_ids)
    mine = np.arange(num_rows)[plan.batches.slice_of(shard, num_rows)]
    places = _fill(mine, np.arange(num_rows), least)
    others = (places + 1) % num_rows
    return Ticket(
        phase=phase,
        epoch=epoch,
        step=step,
        shard=shard,
        row_ids=taken.row_ids[places],
        num_rows=len(mine),
        views=taken.views[places],
        partners=taken[others],
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
            filled = _fill(mine, mine, rows_per_batch)
            yield Ticket(
                phase=0,
                epoch=0,
                step=index,
                shard=0,
                row_ids=filled,
                num_rows=len(mine),
                views=np.zeros(len(filled), np.int64),
            )


def _fill(mine: Ids, rows: Ids, least: int) -> Ids:
    """Lengthen `mine` to at least `least` rows with others that will weigh 0."""
    missing = least - len(mine)
    return mine if missing <= 0 else np.concatenate([mine, np.resize(rows, missing)])
