"""Run the learning-rate range test: the real steps of one phase, at rates that rise.

The model is spoilt afterwards; nothing is saved, and nothing is meant to be.
"""

import math
from collections.abc import Callable
from itertools import islice

from rayft.engine.reduce import make_reduce
from rayft.engine.run import Run
from rayft.engine.step import train_step
from rayft.errors import Problem, TrainingError
from rayft.optim.modes import set_trainable, set_training_modes
from rayft.plan.lr_range import LossCurve, explodes, peak_rate, range_phase
from rayft.plan.run_plan import PhasePlan

OnStep = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""


def run_range_test(run: Run, phase: PhasePlan, *, num_steps: int, on_step: OnStep) -> LossCurve:
    """Train at rising rates until the loss explodes, or `num_steps` are done.

    Args:
        run: holds the weights to start from; its model and optimizer are changed.
        phase: what trains, and in which proportions.
        num_steps: steps from the smallest to the largest rate.
        on_step: hears of every step.

    Raises:
        TrainingError: the very first loss is not finite.
    """
    rising = range_phase(phase, num_steps=num_steps, steps_per_epoch=run.plan.steps_per_epoch)
    set_trainable(run.model, rising.ledger)
    run.start_optimizer(rising)
    reduce = make_reduce(run.plan, run.model, run.ranks)
    set_training_modes(run.model, rising.ledger, batch_norm=run.plan.spec.batch_norm)
    losses: list[float] = []
    exploded = False
    with run.feed.training(rising, start_step=0) as steps:
        for batches in islice(steps, num_steps):
            result = train_step(run, reduce, rising, batches)
            loss = result.loss_sum.item() / result.num_rows
            if math.isfinite(loss):
                losses.append(loss)
            on_step(len(losses), num_steps)
            skipped = run.policies.non_finite.num_skipped > 0
            exploded = skipped or not math.isfinite(loss) or explodes(losses)
            if exploded:
                break
    if not losses:
        what = "the loss of the first step is not finite, at the smallest rate"
        raise TrainingError(Problem(f"phase {phase.name}", what, "use precision: fp32"))
    peak = peak_rate(rising)
    rates = tuple(rising.schedule.factor(step) * peak for step in range(len(losses)))
    return LossCurve(rates=rates, losses=tuple(losses), exploded=exploded)
