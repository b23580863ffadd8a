"""The loop: phases of steps, with evaluation and a checkpoint at the end of every epoch.

It knows state, batches, objective, policies and ports, and no feature by name.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rayft.engine.epoch import (
    ends_epoch,
    report_progress,
    reports_loss,
    save,
    stopped,
    take_metrics,
)
from rayft.engine.evaluation import evaluate, finite
from rayft.engine.meter import Losses
from rayft.engine.reduce import make_reduce
from rayft.engine.run import Run
from rayft.engine.step import train_step
from rayft.metrics import ClassificationReport
from rayft.optim.modes import set_trainable, set_training_modes
from rayft.plan.facts import SplitName
from rayft.plan.run_plan import PhasePlan


def train(run: Run) -> None:
    """Run every phase that is left.

    Raises:
        Stopped: the run was asked to stop; its position is saved.
        TrainingError: the run cannot go on.
    """
    while not run.position.finished(run.plan):
        _run_phase(run, run.plan.phases[run.position.phase])


def _run_phase(run: Run, phase: PhasePlan) -> None:
    start = run.position.step
    if start == 0 and run.policies.early_stopping:
        run.policies.early_stopping.start_phase()
    set_trainable(run.model, phase.ledger)
    run.start_optimizer(phase)
    reduce = make_reduce(run.plan, run.model, run.ranks)
    set_training_modes(run.model, phase.ledger, batch_norm=run.plan.spec.batch_norm)
    run.events.emit("phase", {"index": phase.index, "name": phase.name, "step": start})
    losses, last_save = Losses(), run.clock()
    with run.feed.training(phase, start_step=start) as steps:
        for batches in run.meter.steps(steps):
            step = batches[0].ticket.step
            result = train_step(run, reduce, phase, batches)
            run.position = run.position.after_step(run.plan)
            losses.add(result.loss_sum, result.num_rows)
            run.meter.step_done(result.num_rows)
            if reports_loss(run, step):
                report_progress(run, phase, step, losses.reduce(run.ranks))
            if ends_epoch(run, phase, step):
                losses.reduce(run.ranks)
                if _end_epoch(run, phase, step, losses):
                    break
                losses, last_save = Losses(), run.clock()
            elif run.ranks.rank == 0:
                last_save = _between_epochs(run, last_save)


def _between_epochs(run: Run, last_save: float) -> float:
    """Save where it is due; rank 0 alone, because all ranks hold the same state."""
    stop = run.events.stop_requested()
    if not stop and run.clock() - last_save < run.plan.spec.checkpoint.interval_s:
        return last_save
    save(run, best=False)
    if stop:
        raise stopped(run)
    return run.clock()


def _end_epoch(run: Run, phase: PhasePlan, step: int, losses: Losses) -> bool:
    """Evaluate, decide and save; return whether the phase ends here."""
    metrics = {"train/loss": losses.epoch_sum / max(1, losses.epoch_rows)}
    if "validation" in run.plan.data.counts:
        metrics |= finite(evaluate_split(run, "validation").metrics(prefix="validation/"))
        set_training_modes(run.model, phase.ledger, batch_norm=run.plan.spec.batch_norm)
    end = take_metrics(run, phase, step, metrics)
    if run.ranks.rank == 0:
        save(run, best=end.is_best)
        if run.events.stop_requested() and not run.position.finished(run.plan):
            raise stopped(run)
    return end.ends_phase


def evaluate_split(run: Run, split: SplitName) -> ClassificationReport:
    """Evaluate the weights that count, the averaged ones where there are any, on all ranks."""
    with _evaluated_weights(run):
        return evaluate(
            run.model,
            run.feed,
            split,
            plan=run.plan,
            device=run.device,
            ranks=run.ranks,
        )


@contextmanager
def _evaluated_weights(run: Run) -> Iterator[None]:
    with run.average.applied() if run.average else nullcontext():
        yield
