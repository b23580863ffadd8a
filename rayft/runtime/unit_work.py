"""What an actor needs to know of a unit of a sweep, and how the runs in it begin."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rayft.errors import CheckpointError
from rayft.models.weights import LoadedWeights
from rayft.plan.run_plan import RunPlan
from rayft.plan.trials import Unit
from rayft.runtime.beginning import Beginning
from rayft.runtime.folder import RunFolder
from rayft.runtime.preflight import Places, resolve
from rayft.storage.location import Location
from rayft.store.dataset import DatasetRef

_LOCK_WAIT_S, _LOCK_EVERY_S = 180.0, 0.5
"""The board gives a run to one process at a time: whoever else holds it is on its way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A run of a unit."""

    trials: tuple[int, ...]
    """Trials that it stands for: one, or those that share a stage."""
    plan: RunPlan
    """Its spec names its folder."""
    dataset: DatasetRef

    @property
    def folder(self) -> RunFolder:
        """Return the folder of the run."""
        spec = self.plan.spec
        return RunFolder(Location(spec.storage_path), spec.name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's folder, which a process that is about to die may hold a little longer.

        Raises:
            CheckpointError: another process holds it for minutes.
        """
        until = time.monotonic() + _LOCK_WAIT_S
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(self.folder.locked())
                    break
                except CheckpointError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(_LOCK_EVERY_S)
            yield


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitWork:
    """All that an actor needs to know of a unit."""

    unit: Unit
    members: tuple[Member, ...]
    """One run, or those that train fused."""


class Beginnings:
    """Begins runs, one after another; weights are read once for all that begin from them.

    Args:
        places: where runs read.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._weights: dict[str, LoadedWeights | None] = {}

    def of(self, member: Member) -> Beginning:
        """Write down what a run is, unless it has begun, and return what it begins from."""
        folder = member.folder
        weights = None if folder.has_checkpoints() else self.weights_of(member.plan)
        folder.begin(member.plan.spec, member.plan)
        return Beginning(dataset=member.dataset, weights=weights, folder=folder)

    def weights_of(self, plan: RunPlan) -> LoadedWeights | None:
        """Return pretrained weights; None where a run begins from random ones."""
        backbone = plan.spec.model.backbone.model_dump_json(by_alias=True)
        key = f"{backbone} {plan.model.image_size} {plan.model.channels}"
        if key not in self._weights:
            # Of one network alone: those of many would fill the memory.
            self._weights = {key: resolve(plan.spec, self._places, plan)}
        return self._weights[key]
