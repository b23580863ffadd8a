"""The state of a run on one worker, and how it is saved and taken up again."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.checkpoint_reading import Checkpoint
from rayft.engine.device import Device
from rayft.engine.meter import Meter
from rayft.engine.policies import Policies
from rayft.engine.ports import Events, Json, Ranks
from rayft.engine.position import Position
from rayft.errors import CheckpointError, Problem
from rayft.feed.feed import Feed
from rayft.feed.prepare import apart
from rayft.models.model import FineTuneModel
from rayft.objectives.objective import Objective
from rayft.optim.ema import WeightAverage
from rayft.optim.optimizer import load_optimizer_state, make_optimizer, optimizer_state
from rayft.plan.run_plan import PhasePlan, RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a run reaches the outside through."""

    feed: Feed
    ranks: Ranks
    events: Events
    checkpoints: CheckpointFolder


@dataclass
class Run:
    """Everything the loop needs; each part is handed in."""

    plan: RunPlan
    data_fingerprint: str
    model: FineTuneModel
    objective: Objective
    device: Device
    ports: Ports
    policies: Policies
    average: WeightAverage | None
    anchors: Mapping[str, Tensor] = field(default_factory=dict)
    """What weights decay to, by name, instead of zero."""
    clock: Callable[[], float] = time.monotonic
    position: Position = field(default_factory=Position)
    optimizer: torch.optim.Optimizer | None = None
    meter: Meter = field(init=False)
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics of the last evaluation."""
    _saved_optimizer: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.meter = Meter(self.clock)
        self.feed = self.ports.feed
        self.ranks = self.ports.ranks
        self.events = self.ports.events
        self.checkpoints = self.ports.checkpoints

    def start_optimizer(self, phase: PhasePlan) -> torch.optim.Optimizer:
        """Build the optimizer of a phase; parameters that go on keep their moments."""
        state = optimizer_state(self.optimizer) if self.optimizer else self._saved_optimizer
        self.optimizer = make_optimizer(
            self.plan.spec.optimizer, self.model, phase.ledger, anchors=self.anchors
        )
        load_optimizer_state(self.optimizer, state)
        self._saved_optimizer = {}
        return self.optimizer

    def snapshot(self) -> Checkpoint:
        """Return everything that a resumed run needs."""
        tensors = {
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_state(self.optimizer) if self.optimizer else {},
            "objective": dict(self.objective.state_dict()),
        }
        if self.average:
            tensors["average"] = self.average.state()
        # A resumed attempt is not given the pretrained weights again.
        tensors["anchors"] = dict(self.anchors)
        plan = self.plan
        return Checkpoint(
            tensors={kind: values for kind, values in tensors.items() if values},
            manifest={
                "position": self.position.to_json(),
                "policies": self.policies.state(),
                "metrics": dict(self.metrics),
                "spec": plan.spec.model_dump(mode="json", by_alias=True),
                "classes": {"label": list(plan.data.classes)},
                "image_size": plan.model.image_size,
                "mean": list(plan.model.mean),
                "std": list(plan.model.std),
                "data_fingerprint": self.data_fingerprint,
                "precision": plan.precision,
                "prefix": _prefix(plan),
                "rows_per_device": plan.max_rows_per_device,
                "threads_per_worker": plan.resources.threads_per_worker,
                "world_size": plan.resources.world_size,
                "versions": versions(),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up a saved run.

        Raises:
            CheckpointError: the rows are not those it was trained on.
        """
        manifest, tensors = checkpoint.manifest, checkpoint.tensors
        if manifest["data_fingerprint"] != self.data_fingerprint:
            raise CheckpointError(
                Problem(
                    str(self.checkpoints.place),
                    "the rows of the dataset changed since this run began",
                    "give the run another name, or restore the data",
                )
            )
        position = manifest["position"]
        assert isinstance(position, dict)
        self.position = Position(**{key: int(str(value)) for key, value in position.items()})
        self.model.load_state_dict(dict(tensors["model"]))
        self.objective.load_state_dict(dict(tensors.get("objective", {})))
        if self.average:
            self.average.load_state(tensors["average"])
        for name, anchor in tensors.get("anchors", {}).items():
            self.anchors[name].copy_(anchor)
        policies, metrics = manifest["policies"], manifest["metrics"]
        assert isinstance(policies, dict)
        assert isinstance(metrics, dict)
        self.policies.load_state(policies)
        self.metrics = {name: float(str(value)) for name, value in metrics.items()}
        self._saved_optimizer = tensors.get("optimizer", {})


def _prefix(plan: RunPlan) -> Json:
    """Return what evaluation must know of the frozen prefix; None where it runs in one piece."""
    phase = plan.phase_of_last_prefix
    prefix = apart(phase.prefix) if phase else None
    if prefix is None or plan.spec.test_time is not None:
        return None
    return {
        "cut": prefix.cut,
        "rows": prefix.rows,
        "dtype": prefix.dtype,
        "shape": [*prefix.shape],
    }


def versions() -> dict[str, Json]:
    """Return the versions that bit-exactness depends on."""
    return {
        "rayft": version("rayft"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
