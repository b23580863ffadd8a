"""The port through which the engine gets batches, and its in-process form."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rayft.feed.kept import Kept
from rayft.feed.prefetch import ahead
from rayft.feed.prepare import (
    Batch,
    Prepare,
    apart,
    make_evaluation_prepare,
    make_kept_prepare,
    make_training_prepare,
    training_rows,
)
from rayft.feed.tickets import evaluation_tickets, training_tickets
from rayft.plan.facts import SplitName
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.store.dataset import Dataset, Split


class Feed(Protocol):
    """Gives one worker its batches."""

    def training(
        self, phase: PhasePlan, *, start_step: int
    ) -> AbstractContextManager[Iterator[tuple[Batch, ...]]]:
        """Open the stream of a phase: for every step from `start_step`, the worker's shards."""
        ...

    def evaluation(self, split: SplitName) -> AbstractContextManager[Iterator[Batch]]:
        """Open the worker's share of a split, every row once over all workers."""
        ...


class InProcessFeed:
    """Makes batches in the worker's process.

    For an accelerator they are made ahead in a thread. On the CPU a second thread would only take
    cores from the model: torch's pool for it goes on spinning after each batch, which cost 15 % of
    the rows per second of MobileNetV2 on 2 cores.
    """

    def __init__(
        self, plan: RunPlan, dataset: Dataset, *, rank: int, kept: Kept | None = None
    ) -> None:
        self._plan = plan
        self._dataset = dataset
        self._rank = rank
        self._kept = kept
        self._phase: PhasePlan | None = None

    @contextmanager
    def training(
        self, phase: PhasePlan, *, start_step: int
    ) -> Iterator[Iterator[tuple[Batch, ...]]]:
        """Open the stream of a phase: for every step from `start_step`, the worker's shards."""
        split = self._dataset.splits["train"]
        prepare = self._training_prepare(phase, split)
        tickets = training_tickets(
            self._plan, phase, training_rows(split), rank=self._rank, start_step=start_step
        )
        steps = (tuple(prepare(ticket) for ticket in shards) for shards in tickets)
        with self.within(phase), ahead(steps, device=self._plan.resources.device) as batches:
            yield batches

    @contextmanager
    def within(self, phase: PhasePlan) -> Iterator[None]:
        """Let evaluations take what the frozen prefix of a phase makes."""
        self._phase = phase
        try:
            yield
        finally:
            self._phase = None

    @contextmanager
    def evaluation(self, split: SplitName) -> Iterator[Iterator[Batch]]:
        """Open the worker's share of a split, every row once over all workers."""
        rows = self._dataset.splits[split]
        prepare = self._evaluation_prepare(rows, split)
        tickets = evaluation_tickets(
            rows.row_ids,
            rows_per_batch=self._plan.evaluation_rows,
            rank=self._rank,
            world_size=self._plan.resources.world_size,
        )
        made = (prepare(ticket) for ticket in tickets)
        with ahead(made, device=self._plan.resources.device) as batches:
            yield batches

    def _training_prepare(self, phase: PhasePlan, split: Split) -> Prepare:
        kept = self._kept.rows(phase, "train") if self._kept else None
        if kept:
            assert phase.prefix is not None
            return make_kept_prepare(split, kept, phase.prefix)
        threads = self._plan.resources.threads_per_worker
        return make_training_prepare(self._plan, phase, split, threads=threads)

    def _evaluation_prepare(self, rows: Split, split: SplitName) -> Prepare:
        phase = self._phase or self._plan.phase_of_last_prefix
        # Several views of each image are made above the images, below the prefix.
        prefix = phase.prefix if phase and self._plan.spec.test_time is None else None
        kept = self._kept.rows(phase, split) if self._kept and phase and prefix else None
        if kept:
            assert prefix is not None
            return make_kept_prepare(rows, kept, prefix)
        return make_evaluation_prepare(
            rows,
            image_size=self._plan.model.image_size,
            threads=self._plan.resources.threads_per_worker,
            prefix=apart(prefix),
        )
