"""What a run begins from, and which stores of kept rows it wants then."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch

from rayft.engine.build import new_model
from rayft.engine.checkpoint_reading import read_checkpoint, read_manifest
from rayft.feed.wanted import WantedStore, wanted_stores
from rayft.models.model import FineTuneModel
from rayft.models.prefix import prefix_digest
from rayft.models.weights import LoadedWeights, load_weights
from rayft.plan.facts import SplitName
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.runtime.folder import RunFolder
from rayft.store.dataset import Dataset, DatasetRef, open_dataset

Wanted = Mapping[SplitName, tuple[WantedStore, ...]]
"""The stores of the views of each split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a run begins from, or goes on from."""

    dataset: DatasetRef
    weights: LoadedWeights | None
    """Pretrained weights; None where the run goes on, or begins from random ones."""
    folder: RunFolder


def phases_to_come(plan: RunPlan, folder: RunFolder) -> Iterator[PhasePlan]:
    """Yield the phases that are not over yet."""
    newest, first = folder.newest_checkpoint(), 0
    if newest is not None:
        position = read_manifest(newest)["position"]
        assert isinstance(position, dict)
        # The last phase also gives what the test split is evaluated on.
        first = min(int(str(position["phase"])), len(plan.phases) - 1)
    yield from plan.phases[first:]


@final
class Begun:
    """A run as it begins: its rows, and the model below every cut of a prefix.

    Args:
        plan: the run.
        beginning: what it begins from.
    """

    dataset: Dataset
    model: FineTuneModel

    def __init__(self, plan: RunPlan, beginning: Beginning) -> None:
        self._plan = plan
        self.dataset = open_dataset(beginning.dataset)
        self.model = _model(plan, beginning)

    def wanted(self, phase: PhasePlan) -> Wanted:
        """Return the stores that a phase wants, if it is to keep what its prefix makes."""
        assert phase.prefix is not None
        return dict(
            wanted_stores(
                self._plan,
                phase,
                self.dataset,
                weights=prefix_digest(self.model.backbone, phase.prefix.cut),
                instructions=_instructions(self._plan),
            )
        )


def _instructions(plan: RunPlan) -> str:
    """Return what decides the last bits of a sum: the kind of GPU, or a CPU's instructions."""
    if plan.resources.device == "cuda":
        return ", ".join(plan.resources.gpu_names)
    return torch.backends.cpu.get_cpu_capability()


def _model(plan: RunPlan, beginning: Beginning) -> FineTuneModel:
    model = new_model(plan)
    newest, weights = beginning.folder.newest_checkpoint(), beginning.weights
    if newest is not None:
        # Below the cut nothing has trained, so any checkpoint holds what the run began with.
        model.load_state_dict(dict(read_checkpoint(newest).tensors["model"]))
    elif weights is not None:
        load_weights(model, weights, classes=plan.data.classes)
    return model
