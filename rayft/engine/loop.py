"""The loop: phases of steps, with evaluation and a checkpoint at the end of every epoch.

It knows state, batches, objective, policies and ports, and no feature by name.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rayft.engine.evaluation import evaluate, finite
from rayft.engine.meter import Losses
from rayft.engine.reduce import make_reduce
from rayft.engine.run import Run
from rayft.engine.step import train_step
from rayft.errors import Problem, Stopped
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
            if _reports(run, step):
                _report(run, phase, step, losses.reduce(run.ranks))
            if _ends_epoch(run, phase, step):
                losses.reduce(run.ranks)
                if _end_epoch(run, phase, step, losses):
                    break
                losses, last_save = Losses(), run.clock()
            elif run.ranks.rank == 0:
                last_save = _between_epochs(run, last_save)


def _ends_epoch(run: Run, phase: PhasePlan, step: int) -> bool:
    return (step + 1) % run.plan.steps_per_epoch == 0 or step + 1 == phase.num_steps


def _reports(run: Run, step: int) -> bool:
    """Return whether losses are reduced after this step: the same steps on every rank."""
    every = max(1, min(50, run.plan.steps_per_epoch // 10))
    return (step + 1) % every == 0


def _report(run: Run, phase: PhasePlan, step: int, loss: float) -> None:
    factor = phase.schedule.factor(step)
    run.events.emit(
        "progress",
        {
            "phase": phase.name,
            "phase_index": phase.index,
            "epoch": step // run.plan.steps_per_epoch + 1,
            "step": step + 1,
            "steps_done": run.position.steps_done,
            "loss": loss,
            "lr": {rule.name: rule.lr * factor for rule in phase.ledger.groups if rule.trains},
            "rows_per_s": run.meter.rows_per_s,
            "wait_fraction": run.meter.wait_fraction,
        },
    )


def _between_epochs(run: Run, last_save: float) -> float:
    """Save where it is due; rank 0 alone, because all ranks hold the same state."""
    stop = run.events.stop_requested()
    if not stop and run.clock() - last_save < run.plan.spec.checkpoint.interval_s:
        return last_save
    _save(run, best=False)
    if stop:
        raise _stopped(run)
    return run.clock()


def _end_epoch(run: Run, phase: PhasePlan, step: int, losses: Losses) -> bool:
    """Evaluate, decide and save; return whether the phase ends here."""
    metrics = {"train/loss": losses.epoch_sum / max(1, losses.epoch_rows)}
    if "validation" in run.plan.data.counts:
        metrics |= finite(evaluate_split(run, "validation").metrics(prefix="validation/"))
        set_training_modes(run.model, phase.ledger, batch_norm=run.plan.spec.batch_norm)
    run.metrics = metrics
    early = run.policies.early_stopping
    ends = run.position.phase > phase.index
    if early and early.should_end_phase(metrics) and not ends:
        run.position, ends = run.position.at_next_phase(), True
        run.events.emit("early_end", {"phase": phase.name, "step": step + 1})
    is_best = run.policies.best.take(_name(run), metrics)
    run.events.emit(
        "epoch",
        {
            "phase": phase.name,
            "phase_index": phase.index,
            "epoch": step // run.plan.steps_per_epoch + 1,
            "step": step + 1,
            "steps_done": run.position.steps_done,
            "best": is_best,
            "metrics": dict(metrics),
        },
    )
    if run.ranks.rank == 0:
        _save(run, best=is_best)
        if run.events.stop_requested() and not run.position.finished(run.plan):
            raise _stopped(run)
    return ends


def evaluate_split(run: Run, split: SplitName) -> ClassificationReport:
    """Evaluate the weights that count, the averaged ones where there are any, on all ranks."""
    with _evaluated_weights(run):
        return evaluate(
            run.model,
            run.feed,
            split,
            device=run.device,
            ranks=run.ranks,
            classes=run.plan.data.classes,
        )


@contextmanager
def _evaluated_weights(run: Run) -> Iterator[None]:
    with run.average.applied() if run.average else nullcontext():
        yield


def _name(run: Run) -> str:
    return f"step-{run.position.steps_done:010d}"


def _save(run: Run, *, best: bool) -> None:
    name = _name(run)
    run.checkpoints.save(name, run.snapshot(), best=run.policies.best.name)
    run.events.emit("checkpoint", {"name": name, "best": best})


def _stopped(run: Run) -> Stopped:
    return Stopped(
        Problem(
            _name(run),
            "stopped as asked; the position is saved",
            "run the same command again to go on",
        )
    )
