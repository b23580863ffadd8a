import torch

from rayft.engine.meter import Losses, Meter
from rayft.engine.ports import OneRank


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rows_and_waiting_are_counted_and_the_first_step_is_not() -> None:
    clock = Clock()
    meter = Meter(clock)

    def source() -> object:
        for wait in (50.0, 1.0, 1.0):
            clock.now += wait
            yield wait

    for _ in meter.steps(source()):
        clock.now += 3.0
        meter.step_done(8)

    assert (meter.rows, meter.seconds) == (16, 8.0)
    assert meter.rows_per_s == 2.0
    assert meter.wait_fraction == 0.25


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
