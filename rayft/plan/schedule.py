"""Learning rates as pure functions of the step: nothing to save, nothing to get out of step."""

import math
from dataclasses import dataclass
from typing import Literal, assert_never, final

from rayft.spec.duration import parse_duration
from rayft.spec.training import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    ScheduleSpec,
)

Shape = Literal["linear", "cosine", "constant"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Rise to 1 over `num_rise_steps`, then fall to `final_fraction` by the end of the phase."""

    num_steps: int
    num_rise_steps: int
    rise: Shape
    fall: Shape
    start_fraction: float
    final_fraction: float

    def factor(self, step: int) -> float:
        """Return the share of the peak rate at `step`, counted from 0 inside the phase."""
        if step < self.num_rise_steps:
            # Counting from 1 keeps the first step from being wasted at a rate of 0.
            progress = (step + 1) / (self.num_rise_steps + 1)
            return _between(self.start_fraction, 1.0, progress, self.rise)
        # The end is reached after the last step: a step at a rate of 0 would be wasted.
        progress = (step - self.num_rise_steps) / (self.num_steps - self.num_rise_steps)
        return _between(1.0, self.final_fraction, progress, self.fall)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialRise:
    """Grow by the same factor at every step: the range test of `rayft find-lr`.

    Source: Smith 2017 (https://arxiv.org/abs/1506.01186), section 3.3; there the rise is linear.
    Exponential, it spends as many steps on each power of ten.
    """

    num_steps: int
    first: float
    """Share of the peak at the first step."""
    last: float
    """Share of the peak at the last step."""

    def factor(self, step: int) -> float:
        """Return the share of the peak rate at `step`, counted from 0."""
        progress = step / max(1, self.num_steps - 1)
        return math.exp(math.log(self.first) + progress * math.log(self.last / self.first))


def _between(start: float, end: float, progress: float, shape: Shape) -> float:
    match shape:
        case "linear":
            return start + (end - start) * progress
        case "cosine":
            return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
        case _:
            return start


def make_schedule(spec: ScheduleSpec, *, num_steps: int, steps_per_epoch: int) -> Schedule:
    """Turn a `schedule` section into a function of the step in a phase of `num_steps`."""

    def shaped(length: str, rise: Shape, fall: Shape, start: float, final: float) -> Schedule:
        rise_steps = length_in_steps(length, num_steps, steps_per_epoch)
        return Schedule(
            num_steps=num_steps,
            num_rise_steps=min(num_steps - 1, rise_steps),
            rise=rise,
            fall=fall,
            start_fraction=start,
            final_fraction=final,
        )

    match spec:
        case CosineSchedule():
            return shaped(spec.warmup, "linear", "cosine", 0.0, spec.final_fraction)
        case LinearSchedule():
            return shaped(spec.warmup, "linear", "linear", 0.0, spec.final_fraction)
        case ConstantSchedule():
            return shaped(spec.warmup, "linear", "constant", 0.0, 1.0)
        case OneCycleSchedule():
            return shaped(spec.rise, "cosine", "cosine", spec.start_fraction, spec.final_fraction)
        case _:
            assert_never(spec)


def length_in_steps(duration: str, num_steps: int, steps_per_epoch: int) -> int:
    """Return a duration as a number of steps; a share is of `num_steps`, rounded up."""
    length = parse_duration(duration)
    match length.unit:
        case "steps":
            return int(length.amount)
        case "epochs":
            return int(length.amount) * steps_per_epoch
        case "percent":
            return math.ceil(num_steps * length.amount / 100)
        case _:
            assert_never(length.unit)
