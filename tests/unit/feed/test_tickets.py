"""Law 3: every row its planned number of times, on any number of workers."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rayft.feed.tickets import Ticket, TrainingRows, evaluation_tickets, training_tickets
from rayft.plan.run_plan import RunPlan
from tests.unit.plan.conftest import model_facts, planned

__all__ = ["model_facts", "planned"]

Planned = Callable[..., RunPlan]


def steps_of(plan: RunPlan, phase: int, start: int = 0) -> list[list[Ticket]]:
    """Return each step's tickets of all ranks, in the order of shards."""
    ids = np.arange(plan.data.num_rows("train")) * 2
    rows = TrainingRows(row_ids=ids, labels=(ids >= 2 * plan.data.counts["train"][0]).astype(int))
    streams = [
        training_tickets(plan, plan.phases[phase], rows, rank=rank, start_step=start)
        for rank in range(plan.resources.world_size)
    ]
    return [[ticket for shards in step for ticket in shards] for step in zip(*streams, strict=True)]


def rows_of(step: list[Ticket]) -> list[int]:
    return [int(row) for ticket in step for row in ticket.row_ids[: ticket.num_rows]]


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("rows", [8, 97, 103, 120])
def test_every_row_once_an_epoch_on_any_number_of_workers(
    planned: Planned, num_workers: int, rows: int
) -> None:
    plan = planned(rows=rows, scaling={"num_workers": num_workers}, global_batch_size=8)

    steps = steps_of(plan, 0)

    for epoch in range(2):
        part = steps[epoch * plan.steps_per_epoch : (epoch + 1) * plan.steps_per_epoch]
        counted = Counter(row for step in part for row in rows_of(step))
        assert counted == dict.fromkeys(range(0, 2 * rows, 2), 1)


@pytest.mark.parametrize("num_workers", [2, 4])
def test_the_same_rows_in_the_same_steps_on_any_number_of_workers(
    planned: Planned, num_workers: int
) -> None:
    alone = planned(global_batch_size=8)
    shared = planned(global_batch_size=8, scaling={"num_workers": num_workers})

    for phase in (0, 1):
        ours = [rows_of(step) for step in steps_of(shared, phase)]
        assert ours == [rows_of(step) for step in steps_of(alone, phase)]


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("start", [1, 5, 12, 13, 25])
def test_going_on_anywhere_gives_the_rest_of_the_stream(
    planned: Planned, num_workers: int, start: int
) -> None:
    plan = planned(global_batch_size=8, scaling={"num_workers": num_workers})

    rest = [rows_of(step) for step in steps_of(plan, 0, start)]

    assert rest == [rows_of(step) for step in steps_of(plan, 0)][start:]


def test_epochs_and_phases_have_orders_of_their_own(planned: Planned) -> None:
    plan = planned(global_batch_size=8)
    steps = steps_of(plan, 0) + steps_of(plan, 1)

    epochs = {step[0].epoch for step in steps}
    first_steps = [rows_of(s) for s in steps if s[0].step % plan.steps_per_epoch == 0]

    assert epochs == {0, 1, 2, 3}
    assert len({tuple(rows) for rows in first_steps}) == 4


def test_an_empty_shard_of_a_short_step_weighs_nothing(planned: Planned) -> None:
    plan = planned(rows=9, global_batch_size=8, scaling={"num_workers": 4})

    last = steps_of(plan, 0)[1]

    assert [ticket.num_rows for ticket in last] == [0, 0, 0, 1]
    assert all(len(ticket.row_ids) >= 1 for ticket in last)


def test_batch_norm_in_training_mode_never_meets_a_single_row(planned: Planned) -> None:
    plan = planned(rows=9, global_batch_size=8, scaling={"num_workers": 4}, batch_norm="local")

    assert all(len(ticket.row_ids) >= 2 for ticket in steps_of(plan, 0)[1])


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("num_rows", [1, 7, 8, 9, 33])
def test_evaluation_counts_each_row_once_in_batches_of_one_shape(
    world_size: int, num_rows: int
) -> None:
    ids = np.arange(num_rows) * 5

    tickets = [
        ticket
        for rank in range(world_size)
        for ticket in evaluation_tickets(ids, rows_per_batch=8, rank=rank, world_size=world_size)
    ]

    counted = [int(row) for t in tickets for row in t.row_ids[: t.num_rows]]
    assert sorted(counted) == ids.tolist()
    assert {len(ticket.row_ids) for ticket in tickets} == {8}


def test_evaluation_batches_are_the_same_on_any_number_of_workers() -> None:
    ids = np.arange(33)

    def batches(world_size: int) -> set[Any]:
        return {
            tuple(ticket.row_ids.tolist())
            for rank in range(world_size)
            for ticket in evaluation_tickets(
                ids, rows_per_batch=8, rank=rank, world_size=world_size
            )
        }

    assert batches(1) == batches(2) == batches(4)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_partners_are_other_rows_of_the_step_on_any_number_of_workers(
    planned: Planned, num_workers: int
) -> None:
    plan = planned(global_batch_size=8, scaling={"num_workers": num_workers})

    for step in steps_of(plan, 0):
        rows = rows_of(step)
        partners = [
            int(row)
            for ticket in step
            if ticket.partners is not None
            for row in ticket.partners.row_ids[: ticket.num_rows]
        ]
        assert partners == [*rows[1:], rows[0]]


def test_rows_that_only_fill_the_shape_have_partners_too(planned: Planned) -> None:
    plan = planned(rows=9, global_batch_size=8, scaling={"num_workers": 4})

    for ticket in steps_of(plan, 0)[1]:
        assert ticket.partners is not None
        assert len(ticket.partners.row_ids) == len(ticket.row_ids) == len(ticket.views)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_balanced_steps_are_the_same_on_any_number_of_workers(
    planned: Planned, num_workers: int
) -> None:
    data = {"train": {"kind": "folder", "path": "photos"}, "order": "balanced"}
    alone = planned(global_batch_size=8, data=data)
    shared = planned(global_batch_size=8, data=data, scaling={"num_workers": num_workers})

    ours = [rows_of(step) for step in steps_of(shared, 0)]

    assert ours == [rows_of(step) for step in steps_of(alone, 0)]
    rare = sum(row >= 2 * alone.data.counts["train"][0] for step in ours for row in step)
    assert rare == sum(map(len, ours)) // 2
