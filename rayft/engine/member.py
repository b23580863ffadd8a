"""A run among those that train fused: where it stands, and how it is saved.

Its checkpoints hold the whole backbone, which never changes, so they are not written at the end of
every epoch: the best state is held in memory until the next one is due.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from torch import Tensor

from rayft.engine.checkpoint_reading import Checkpoint
from rayft.engine.epoch import checkpoint_name
from rayft.engine.meter import Losses
from rayft.engine.ports import Json
from rayft.engine.run import Run
from rayft.errors import RayftError
from rayft.models.heads import ScoreHead
from rayft.optim.modes import set_trainable
from rayft.optim.optimizer import optimizer_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a checkpoint holds, but for what all checkpoints of the run have in common."""

    name: str
    heads: Mapping[str, Tensor]
    """By the names of the model's state."""
    optimizer: Mapping[str, Tensor]
    manifest: Mapping[str, Json]
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, run: Run) -> Self:
        """Copy what changes of a run."""
        assert run.optimizer is not None
        state = run.model.heads.state_dict(prefix="heads.")
        return cls(
            name=checkpoint_name(run),
            heads={name: value.clone() for name, value in state.items()},
            optimizer={
                name: value.clone() for name, value in optimizer_state(run.optimizer).items()
            },
            manifest={
                "position": run.position.to_json(),
                "policies": run.policies.state(),
                "metrics": dict(run.metrics),
            },
            metrics=dict(run.metrics),
        )

    def checkpoint(self, run: Run) -> Checkpoint:
        """Return the checkpoint that the run would have written."""
        now = run.snapshot()
        tensors = {
            **now.tensors,
            "model": {**now.tensors["model"], **self.heads},
            "optimizer": self.optimizer,
        }
        return Checkpoint(
            tensors={kind: values for kind, values in tensors.items() if values},
            manifest={**now.manifest, **self.manifest},
        )


@dataclass(kw_only=True)
class Member:
    """One of the runs that train fused."""

    trial: int
    run: Run
    losses: Losses = field(default_factory=Losses)
    is_stopped: bool = False
    """Whether the scheduler has stopped it."""
    error: RayftError | None = None
    """Why it cannot go on."""
    best: Held | None = None
    """Its best state, where it was reached since the run was taken up."""
    _phase: int = -1
    """The phase that it has entered."""
    _written: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.run.position.steps_done:
            # It was taken up from there.
            self._written.add(checkpoint_name(self.run))

    @property
    def is_live(self) -> bool:
        """Whether it has steps left to take."""
        ended = self.is_stopped or self.error is not None
        return not ended and not self.run.position.finished(self.run.plan)

    @property
    def head(self) -> ScoreHead:
        """Its only head."""
        (head,) = self.run.model.heads.values()
        assert isinstance(head, ScoreHead)
        return head

    def enter_phase(self) -> None:
        """Begin the phase that it stands in, or go on in it, where it has not yet."""
        run = self.run
        phase, start = run.plan.phases[run.position.phase], run.position.step
        if self._phase == phase.index:
            return
        self._phase = phase.index
        if start == 0 and run.policies.early_stopping:
            run.policies.early_stopping.start_phase()
        set_trainable(run.model, phase.ledger)
        run.start_optimizer(phase)
        run.events.emit("phase", {"index": phase.index, "name": phase.name, "step": start})
        self.losses = Losses()

    def hold_best(self) -> None:
        """Keep the state of now in memory as the best."""
        self.best = Held.of(self.run)

    def save(self) -> None:
        """Write the best state, and that of now, unless they are written."""
        self.save_best()
        name = checkpoint_name(self.run)
        if name not in self._written:
            self._save(name, self.run.snapshot())

    def save_best(self) -> None:
        """Write the best state, where it is held and not written."""
        if self.best is not None and self.best.name not in self._written:
            self._save(self.best.name, self.best.checkpoint(self.run))

    def _save(self, name: str, checkpoint: Checkpoint) -> None:
        best = self.run.policies.best.name
        self.run.checkpoints.save(name, checkpoint, best=best)
        self._written.add(name)
        self.run.events.emit("checkpoint", {"name": name, "best": name == best})
