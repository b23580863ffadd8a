from collections.abc import Iterator

import torch

from rayft.engine.meter import Losses, Meter
from rayft.engine.ports import OneRank


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def train(meter: Meter, clock: Clock, waits: tuple[float, ...]) -> None:
    """Take a step of 8 rows and 3 s after each wait."""

    def source() -> Iterator[float]:
        for wait in waits:
            clock.now += wait
            yield wait

    for _ in meter.steps(source()):
        clock.now += 3.0
        meter.step_done(8)


def test_rows_and_waiting_are_counted_and_the_first_step_is_not() -> None:
    clock = Clock()
    meter = Meter(clock)

    train(meter, clock, (50.0, 1.0, 1.0))

    assert (meter.total.rows, meter.total.seconds) == (16, 8.0)
    assert meter.total.rows_per_s == 2.0
    assert meter.total.wait_fraction == 0.25


def test_a_phase_has_a_pace_of_its_own() -> None:
    """A run slows down when a phase with larger images begins, not on average."""
    clock = Clock()
    meter = Meter(clock)

    train(meter, clock, (0.0, 1.0, 1.0))
    before = meter.phase.rows_per_s, meter.phase.wait_fraction
    train(meter, clock, (0.0, 5.0, 5.0))

    assert before == (2.0, 0.25)
    assert (meter.phase.rows_per_s, meter.phase.wait_fraction) == (1.0, 0.625)
    assert (meter.total.rows, meter.total.seconds, meter.total.wait_s) == (32, 24.0, 12.0)


def test_losses_are_means_over_rows_and_not_over_steps() -> None:
    losses = Losses()

    losses.add(torch.tensor(10.0), 8)
    losses.add(torch.tensor(4.0), 1)
    first = losses.reduce(OneRank())
    losses.add(torch.tensor(6.0), 1)
    second = losses.reduce(OneRank())

    assert first == 14 / 9
    assert second == 6.0
    assert (losses.epoch_sum, losses.epoch_rows) == (20.0, 10)
