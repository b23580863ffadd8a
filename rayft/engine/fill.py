"""Make the rows that frozen prefixes are kept as: once for each row and view."""

from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from rayft.engine.device import Device
from rayft.engine.out_of_memory import out_of_memory_told
from rayft.engine.placing import place
from rayft.engine.prefix import FrozenPrefix
from rayft.feed.ahead import evaluation_ahead
from rayft.feed.prefetch import ahead
from rayft.feed.prepare import Prepare, make_evaluation_prepare, make_training_prepare
from rayft.feed.tickets import Ticket
from rayft.models.model import FineTuneModel
from rayft.plan.facts import SplitName
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.store.activation_work import ActivationReport, ActivationWork, finish_shard
from rayft.store.dataset import Dataset

_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FillWork:
    """One shard of one store of kept rows."""

    key: str
    """Of the store."""
    phase: int
    split: SplitName
    """A split whose source the rows are of."""
    view: int | None
    """Number of the random view; None is the image as evaluation takes it."""
    row_ids: NDArray[np.int64]
    """[N] valid rows, ascending, N at least 1."""
    shard: ActivationWork


@final
class Filler:
    """Runs frozen prefixes on rows of a dataset, as the phases of a run would themselves.

    Args:
        plan: the run.
        dataset: its rows.
        model: with the weights that the run begins with; it is put into evaluation mode.
        device: where it computes.
    """

    def __init__(
        self, plan: RunPlan, dataset: Dataset, *, model: FineTuneModel, device: Device
    ) -> None:
        self._plan = plan
        self._dataset = dataset
        self._backbone = model.eval().requires_grad_(False).backbone
        self._device = device

    def __call__(self, work: FillWork) -> tuple[str, ActivationReport]:
        """Make and write one shard; return the key of its store and its report.

        Raises:
            CacheError: the disk or the object store refused.
            DataError: a row cannot be read.
            TrainingError: the GPU's memory is too small.
        """
        return work.key, finish_shard(work.shard, self.rows(work))

    def rows(self, work: FillWork) -> NDArray[Any]:
        """Return what the prefix makes of the rows, as `FrozenPrefix.to_rows` gives it."""
        phase = self._plan.phases[work.phase]
        assert phase.prefix is not None
        prefix = FrozenPrefix(self._backbone, phase.prefix, self._device)
        prepare = self._prepare(phase, work)
        step = max(1, _ROWS_AT_ONCE // phase.prefix.rows) * phase.prefix.rows
        rows = (work.row_ids[start : start + step] for start in range(0, len(work.row_ids), step))
        batches = (prepare(_ticket(work, row_ids)) for row_ids in rows)
        made = []
        told = out_of_memory_told(self._plan, rows=phase.prefix.rows)
        with told, ahead(batches, device=self._device.device.type) as prepared:
            for batch in prepared:
                placed = place(batch, device=self._device, backbone=self._backbone)
                made.append(prefix.to_rows(placed.inputs))
        return np.concatenate(made)

    def _prepare(self, phase: PhasePlan, work: FillWork) -> Prepare:
        threads = torch.get_num_threads()
        split = self._dataset.splits[work.split]
        if work.view is None:
            size = self._plan.model.image_size
            return make_evaluation_prepare(
                split, image_size=size, threads=threads, prefix=phase.prefix
            )
        after = partial(evaluation_ahead, split.store)
        return make_training_prepare(self._plan, phase, split, threads=threads, after=after)


def _ticket(work: FillWork, row_ids: NDArray[np.int64]) -> Ticket:
    return Ticket(
        phase=work.phase,
        epoch=0,
        step=0,
        shard=work.shard.index,
        row_ids=row_ids,
        num_rows=len(row_ids),
        views=np.full(len(row_ids), work.view or 0, np.int64),
    )
