"""The learning-rate range test in numbers: the phase it runs, and what its losses say.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks"
(https://arxiv.org/abs/1506.01186), section 3.3.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev

from rayft.plan.run_plan import PhasePlan
from rayft.plan.schedule import ExponentialRise

FIRST_RATE = 1e-7
LAST_RATE = 10.0
EXPLODED = 4.0
"""A loss of so many times the lowest one has exploded (fastai stops there too)."""
_SMOOTHED_SHARE = 0.05
"""Of the steps, on either side of each: with 100 steps a window of eleven."""
_BELOW_THE_MINIMUM = 10.0
_LEAST_FALL = 0.02
"""Share of the first loss; less than that is no fall."""
_LEAST_FALL_IN_NOISE = 4.0
"""Deviations of a smoothed loss: the lowest of many windows lies two below the mean by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve:
    """The loss of each step of a range test."""

    rates: tuple[float, ...]
    """Rate of the fastest group at each step."""
    losses: tuple[float, ...]
    """Mean loss of the step's rows, in nats; the same length, all finite."""
    exploded: bool
    """Whether the test ended because the loss exploded, before the largest rate."""

    @property
    def smoothed(self) -> tuple[float, ...]:
        """Losses averaged over a window around each step, narrower towards the ends."""
        most, end = self.half_window, len(self.losses) - 1
        windows = (min(most, i, end - i) for i in range(len(self.losses)))
        return tuple(fmean(self.losses[i - h : i + h + 1]) for i, h in enumerate(windows))

    @property
    def half_window(self) -> int:
        """Steps on either side of one that its smoothed loss is averaged over."""
        return max(2, round(len(self.losses) * _SMOOTHED_SHARE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """Peak rates of the fastest group."""

    rate: float
    """The rate of the steepest fall, but at most a tenth of the rate of the lowest loss."""
    steepest: float
    """Rate at which the smoothed loss falls most per power of ten."""
    lowest: float
    """Rate at which the smoothed loss is lowest."""


def range_phase(phase: PhasePlan, *, num_steps: int, steps_per_epoch: int) -> PhasePlan:
    """Return a phase that takes its steps at rates that rise from `FIRST_RATE` to `LAST_RATE`.

    These are the rates of its fastest group; the others keep their proportion to it.
    """
    peak = peak_rate(phase)
    rise = ExponentialRise(num_steps=num_steps, first=FIRST_RATE / peak, last=LAST_RATE / peak)
    num_epochs = -(-num_steps // steps_per_epoch)
    return replace(phase, schedule=rise, num_steps=num_steps, num_epochs=num_epochs)


def peak_rate(phase: PhasePlan) -> float:
    """Return the peak rate of the group that learns fastest in a phase."""
    return max(rule.lr for rule in phase.ledger.groups)


def suggest_rate(curve: LossCurve) -> Suggestion | None:
    """Return the rate that a range test suggests; None where the loss did not clearly fall."""
    smoothed, window = curve.smoothed, curve.half_window
    if len(smoothed) <= 4 * window:
        return None
    # Towards the ends windows are narrow, and a single batch could be the lowest or the steepest.
    lowest = min(range(window, len(smoothed) - window), key=smoothed.__getitem__)
    start = fmean(curve.losses[: 2 * window + 1])
    noise = _noise(curve, until=lowest) / math.sqrt(2 * window + 1)
    least_fall = max(_LEAST_FALL * start, _LEAST_FALL_IN_NOISE * noise)
    if lowest == window or start - smoothed[lowest] < least_fall:
        return None
    apart = max(1, window // 2)
    falls = {i: smoothed[i + apart] - smoothed[i - apart] for i in range(window, lowest)}
    steepest = min(falls, key=falls.__getitem__)
    rate = min(curve.rates[steepest], curve.rates[lowest] / _BELOW_THE_MINIMUM)
    return Suggestion(rate=rate, steepest=curve.rates[steepest], lowest=curve.rates[lowest])


def _noise(curve: LossCurve, *, until: int) -> float:
    """Return how far the losses of single steps lie from the smoothed ones."""
    pairs = zip(curve.losses[: until + 1], curve.smoothed[: until + 1], strict=True)
    return pstdev(loss - smooth for loss, smooth in pairs)


def scaled_setting(lr: float | Mapping[str, float], factor: float, *, where: str) -> str:
    """Return the override that multiplies all rates of a phase by `factor`.

    A table is given as a whole: a key such as `layer2..layer4` cannot stand in a path.
    """
    if not isinstance(lr, Mapping):
        return f"{where}={_written(lr * factor)}"
    entries = (
        f"{key}: {rate:g}" if key == "decay" else f"{key}: {_written(rate * factor)}"
        for key, rate in lr.items()
    )
    return f"{where}={{{', '.join(entries)}}}"


def _written(rate: float) -> str:
    """Return a rate with two digits: a range test knows no more."""
    return f"{rate:.2g}"


def explodes(losses: Sequence[float]) -> bool:
    """Return whether the newest of these losses have exploded.

    A few are averaged, so that one hard batch ends nothing.
    """
    few = 3
    if len(losses) < 2 * few:
        return False
    means = [fmean(losses[i : i + few]) for i in range(len(losses) - few + 1)]
    return means[-1] > EXPLODED * min(means)
