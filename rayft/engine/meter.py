"""How fast a run goes, and what it waits for."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from rayft.engine.ports import Ranks

T = TypeVar("T")


@dataclass
class Pace:
    """Rows and seconds of steps that were taken."""

    rows: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0

    def add(self, rows: int, *, seconds: float, wait_s: float) -> None:
        """Count a step."""
        self.rows += rows
        self.seconds += seconds
        self.wait_s += wait_s

    @property
    def rows_per_s(self) -> float:
        """Rows trained per second, over all ranks."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def wait_fraction(self) -> float:
        """Share of the time in which the device waited for a batch."""
        return self.wait_s / self.seconds if self.seconds else 0.0


@dataclass
class Meter:
    """Adds up rows and seconds of training steps, of all and of the phase that runs.

    Phases differ in what trains and in the size of their images, and so in their pace.
    Evaluation, checkpoints and the first step of each phase, which sets things up, are left out.
    """

    clock: Callable[[], float]
    total: Pace = field(default_factory=Pace)
    phase: Pace = field(default_factory=Pace)
    _waited: float = field(default=0.0, repr=False)
    _started: float = field(default=0.0, repr=False)
    _settled: bool = field(default=False, repr=False)

    def steps(self, source: Iterable[T]) -> Iterator[T]:
        """Pass on the items of `source`, the steps of a phase, and time the wait for each."""
        self.phase, self._settled = Pace(), False
        iterator = iter(source)
        while True:
            self._started = self.clock()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waited = self.clock() - self._started
            yield item

    def step_done(self, num_rows: int) -> None:
        """Count the step whose batch was passed on last."""
        if self._settled:
            seconds = self.clock() - self._started
            for pace in (self.total, self.phase):
                pace.add(num_rows, seconds=seconds, wait_s=self._waited)
        self._settled = True


@dataclass
class Losses:
    """Training losses since the last report and since the epoch began, reduced over ranks.

    After a resume inside an epoch they cover the rows trained since then.
    """

    epoch_sum: float = 0.0
    epoch_rows: int = 0
    _rows: int = 0
    _pending: list[Tensor] = field(default_factory=list)

    def add(self, loss_sum: Tensor, num_rows: int) -> None:
        """Take one step: this rank's sum of losses, and the rows of all ranks."""
        # The tensor is read later, so that a GPU need not be waited for at every step.
        self._pending.append(loss_sum)
        self._rows += num_rows

    def reduce(self, ranks: Ranks) -> float:
        """Return the mean loss since the last call; every rank must call it after the same step."""
        local = torch.stack(self._pending).double().sum().item() if self._pending else 0.0
        total = float(ranks.gather(np.array([local])).sum())
        mean = total / max(1, self._rows)
        self.epoch_sum += total
        self.epoch_rows += self._rows
        self._pending, self._rows = [], 0
        return mean
