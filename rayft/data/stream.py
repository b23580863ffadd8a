"""The stream of tickets as one Ray Data execution for each phase and worker.

Numbers of blocks go in, uint8 batches come out in the same order; the tasks in between walk the
same tickets and call the same `prepare` as the in-process feed. One execution covers all epochs
of a phase, so nothing stalls between them.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
import ray
from numpy.typing import NDArray

from rayft.feed.feed import InProcessFeed
from rayft.feed.kept import Kept
from rayft.feed.pending import Pending, pending_of
from rayft.feed.prepare import (
    Batch,
    Mix,
    Prepare,
    apart,
    make_training_prepare,
    training_rows,
)
from rayft.feed.tickets import Ticket, TrainingRows, training_tickets
from rayft.plan.facts import SplitName
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.plan.storage import traveling_size
from rayft.spec.mix import acting
from rayft.spec.run import RunSpec
from rayft.store.dataset import Dataset, DatasetRef, Split, open_dataset

_MOST_STEPS_PER_BLOCK = 16
_MOST_BLOCK_BYTES = 32 * 2**20
"""Many blocks must fit the object store, and Ray Data splits those over 128 MiB."""

Columns = dict[str, NDArray[np.generic]]


class RayDataFeed:
    """Makes training batches in Ray Data tasks; evaluation stays in process."""

    def __init__(
        self, plan: RunPlan, dataset: Dataset, *, rank: int, kept: Kept | None = None
    ) -> None:
        self._plan = plan
        self._dataset = dataset
        self._rank = rank
        self._kept = kept
        self._in_process = InProcessFeed(plan, dataset, rank=rank, kept=kept)

    @contextmanager
    def training(
        self, phase: PhasePlan, *, start_step: int
    ) -> Iterator[Iterator[tuple[Batch, ...]]]:
        """Open the stream of a phase: for every step from `start_step`, the worker's shards."""
        if self._kept and self._kept.rows(phase, "train"):
            with self._in_process.training(phase, start_step=start_step) as steps:
                yield steps
            return
        work = _Work(
            plan=self._plan,
            phase=phase,
            ref=self._dataset.ref.to_json(),
            rank=self._rank,
            start_step=start_step,
            steps_per_block=_steps_per_block(self._plan),
        )
        num_blocks = -(-(phase.num_steps - start_step) // work.steps_per_block)
        stream = ray.data.range(num_blocks, override_num_blocks=num_blocks).map_batches(
            _make_block, batch_size=None, batch_format="numpy", fn_args=[work]
        )
        stream.context.execution_options.preserve_order = True
        stream.context.enable_progress_bars = False
        stream.context.print_on_execution_start = False
        tickets = training_tickets(
            self._plan,
            phase,
            training_rows(self._dataset.splits["train"]),
            rank=self._rank,
            start_step=start_step,
        )
        blocks = iter(
            stream.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2)
        )
        with self._in_process.within(phase):
            regrouped = _regroup(tickets, blocks, self._plan.spec, self._dataset.splits["train"])
            prefix = apart(phase.prefix)
            yield (tuple(replace(one, prefix=prefix) for one in shards) for shards in regrouped)

    def evaluation(self, split: SplitName) -> AbstractContextManager[Iterator[Batch]]:
        """Open the worker's share of a split, every row once over all workers."""
        return self._in_process.evaluation(split)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What a task needs to make any block of a phase."""

    plan: RunPlan
    phase: PhasePlan
    ref: str
    rank: int
    start_step: int
    steps_per_block: int


def _steps_per_block(plan: RunPlan) -> int:
    rows = plan.spec.global_batch_size // plan.resources.world_size
    size = traveling_size(plan.spec, image_size=plan.model.image_size)
    step_bytes = rows * size**2 * plan.model.channels
    return max(1, min(_MOST_STEPS_PER_BLOCK, _MOST_BLOCK_BYTES // step_bytes))


def _make_block(numbers: Columns, work: _Work) -> Columns:
    """Make the rows of one block: all tickets of its steps, one after another."""
    (number,) = numbers["id"]
    prepare, rows = _opened(work.ref, work.plan, work.phase)
    first = work.start_step + int(number) * work.steps_per_block
    steps = training_tickets(work.plan, work.phase, rows, rank=work.rank, start_step=first)
    batches = [
        prepare(ticket) for shards in islice(steps, work.steps_per_block) for ticket in shards
    ]
    columns = [_columns(batch) for batch in batches]
    return {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}


def _columns(batch: Batch) -> Columns:
    assert batch.images is not None, "kept rows do not go through Ray Data"
    if batch.pending is not None:
        # The worker knows the labels of its rows; partners make other rows travel than those.
        return {"images": batch.images, "row_ids": batch.pending.rows.row_ids}
    columns: Columns = {
        "images": batch.images,
        "labels": batch.labels,
        "row_ids": batch.ticket.row_ids,
    }
    if batch.mix is not None:
        columns |= {"partner_labels": batch.mix.labels, "shares": batch.mix.shares}
    return columns


@lru_cache(maxsize=1)
def _open(ref: str) -> Dataset:
    return open_dataset(DatasetRef.from_json(ref))


def _opened(ref: str, plan: RunPlan, phase: PhasePlan) -> tuple[Prepare, TrainingRows]:
    split = _open(ref).splits["train"]
    prepare = make_training_prepare(plan, phase, split, threads=1)
    return prepare, training_rows(split)


def _regroup(
    steps: Iterator[tuple[Ticket, ...]], blocks: Iterator[Columns], spec: RunSpec, split: Split
) -> Iterator[tuple[Batch, ...]]:
    """Cut the stream of rows into the batches of the tickets, wherever blocks end.

    Raises:
        RuntimeError: the stream is not in the planned order; training on it would be wrong.
    """
    rows = _Rows(blocks)
    for shards in steps:
        batches = []
        for ticket in shards:
            pending, wanted = None, ticket.row_ids
            if spec.augment_on == "device":
                pending = pending_of(ticket, split, mixes=bool(acting(spec.mix)))
                wanted = pending.rows.row_ids
            columns = rows.take(len(wanted))
            if not np.array_equal(columns["row_ids"], wanted):
                raise RuntimeError(f"Ray Data gave other rows than step {ticket.step} planned")
            if pending is None:
                batches.append(_batch(columns, ticket))
            else:
                batches.append(_pending_batch(columns, ticket, pending, split))
        yield tuple(batches)


def _batch(columns: Columns, ticket: Ticket) -> Batch:
    mix = None
    if "shares" in columns:
        mix = Mix(
            labels=columns["partner_labels"].astype(np.int64, copy=False),
            shares=columns["shares"].astype(np.float32, copy=False),
        )
    return Batch(
        images=columns["images"].astype(np.uint8, copy=False),
        labels=columns["labels"].astype(np.int64, copy=False),
        ticket=ticket,
        mix=mix,
    )


def _pending_batch(columns: Columns, ticket: Ticket, pending: Pending, split: Split) -> Batch:
    return Batch(
        images=columns["images"].astype(np.uint8, copy=False),
        labels=split.labels_of(ticket.row_ids),
        ticket=ticket,
        pending=pending,
    )


class _Rows:
    """A reader of rows over the borders of blocks."""

    def __init__(self, blocks: Iterator[Columns]) -> None:
        self._blocks = blocks
        self._block: Columns = {}
        self._used = 0

    def take(self, count: int) -> Columns:
        """Return the next `count` rows; without a copy where one block holds them all."""
        parts: list[Columns] = []
        while count:
            left = len(self._block.get("row_ids", ())) - self._used
            if not left:
                self._block, self._used = next(self._blocks), 0
                continue
            taken = min(left, count)
            span = slice(self._used, self._used + taken)
            parts.append({name: column[span] for name, column in self._block.items()})
            self._used += taken
            count -= taken
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
