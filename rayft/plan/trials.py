"""The words of a sweep: points, trials, what they report, and the units that are worked on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]
Status = Literal["waiting", "running", "finished", "stopped", "invalid", "failed"]
ENDED: frozenset[Status] = frozenset({"finished", "stopped", "invalid", "failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The values of one trial."""

    trial: int
    """Number of the trial; 0 has the spec's own values."""
    values: Mapping[str, Json]
    """By path in the spec; empty for the spec's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How far a trial is at the end of an epoch, and what it has reached."""

    trial: int
    phase: int
    """Index of the plain phase."""
    epoch: int
    """Epoch of the phase, counted from 1."""
    steps_done: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of a trial."""

    trial: int
    status: Status
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Those of its best checkpoint."""
    checkpoint: str = ""
    """Its best checkpoint; empty where there is none."""
    reason: str = ""
    """Why it is invalid, was stopped, or failed."""
    together: bool = False
    """Whether it failed with all of a fused unit, which says nothing of what it does alone."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What one actor works on at a time: a trial, several fused ones, or phases that trials share.

    It follows from the plan and from what has ended, so it is never stored.
    """

    name: str
    """`trial-0003`, `fused-0003` after its first trial, `stage-` and the key of what is shared."""
    trials: tuple[int, ...]
    """Its members, in their order."""
    kind: Literal["lone", "fused", "stage"]
    begins_from: str = ""
    """Name of the stage whose end it begins from; empty where it begins from the start."""
    stops_before: int = 0
    """Of a stage: index of the first plain phase that is no longer shared."""
