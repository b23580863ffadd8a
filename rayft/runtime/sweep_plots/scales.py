"""Where values lie on an axis from 0 to 1, and the marks beside it.

What kind of axis a setting gets follows from the values that were tried: few different ones are
evenly spaced choices, numbers over more than a power of ten are shown by their logarithm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

from rayft.plan.trials import Json
from rayft.runtime.sweep_words import ValueWords, value_text, words_for

_FEW = 6
"""So many different numbers are shown as choices, where some of them were tried twice."""
_LOG_FROM = 20.0
"""Largest over smallest value from which an axis is logarithmic."""
_MARKS = 5
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_OUTLIERS_FROM = 5
"""Fewest values of which some can count as outliers."""
_USUAL = 0.8
"""Share of the values that are never outliers."""

Mark = tuple[float, str]
"""Place on the axis, and what stands there."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Evenly spaced values."""

    texts: tuple[str, ...]
    words: ValueWords

    def place(self, value: Json) -> float:
        """Return where a value lies."""
        return self._at(self.texts.index(value_text(value)))

    def marks(self) -> list[Mark]:
        """Return a mark for each value."""
        numbered = self.words.numbered
        return [(self._at(i), numbered.get(text, text)) for i, text in enumerate(self.texts)]

    def _at(self, index: int) -> float:
        return 0.5 if len(self.texts) == 1 else index / (len(self.texts) - 1)


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`; what lies beyond is drawn at the end."""

    low: float
    high: float
    log: bool = False

    def place(self, value: Json) -> float:
        """Return where a number lies."""
        assert is_number(value)
        low, high, at = self._measure(self.low), self._measure(self.high), self._measure(value)
        return 0.5 if high == low else min(1.0, max(0.0, (at - low) / (high - low)))

    def marks(self) -> list[Mark]:
        """Return round numbers within the range; its two ends where it is too narrow for them."""
        values = _powers(self.low, self.high) if self.log else _round(self.low, self.high)
        if len(values) < 2:
            values = [self.low] if self.low == self.high else [self.low, self.high]
        return [(self.place(value), f"{value:.3g}") for value in values]

    def _measure(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value


Scale = Choices | Range


def scale_of(values: Sequence[Json]) -> Scale:
    """Return the axis of a setting from the values that trials have, in the order of trials."""
    numbers = [value for value in values if is_number(value)]
    different = sorted(set(numbers))
    few = len(different) <= _FEW and len(different) < len(values)
    if len(numbers) < len(values) or few:
        rest = [value for value in values if not is_number(value)]
        texts = dict.fromkeys(map(value_text, [*different, *rest]))
        return Choices(tuple(texts), words_for(values))
    low, high = different[0], different[-1]
    return Range(low, high, log=low > 0 and high / low >= _LOG_FROM)


def metric_range(values: Sequence[float], direction: Literal["min", "max"]) -> Range:
    """Return the axis of a metric, without the few values that are far worse than the others.

    One trial that diverged would else press all others into a line.
    """
    ordered = sorted(values, reverse=direction == "max")
    best, worst = ordered[0], ordered[-1]
    usual = ordered[math.floor(_USUAL * (len(ordered) - 1))]
    if len(ordered) >= _OUTLIERS_FROM and abs(worst - best) > 3 * abs(usual - best) > 0:
        worst = best + 1.2 * (usual - best)
    return Range(min(best, worst), max(best, worst))


def is_number(value: Json) -> TypeGuard[int | float]:
    """Return whether a value is a number, which a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _powers(low: float, high: float) -> list[float]:
    """Return powers of ten, every second one where there are many."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / _MARKS))
    return [10.0**power for power in range(first, last + 1, step)]


def _round(low: float, high: float) -> list[float]:
    """Return round numbers, about as many as there are to be marks."""
    if high == low:
        return []
    rough = (high - low) / _MARKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in _STEPS if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]
