"""What happens around a run's steps: reports, decisions at the end of an epoch, checkpoints.

The loop does it for one run, `rayft.engine.fused` for several that train as one batched model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rayft.engine.run import Run
from rayft.errors import Problem, Stopped
from rayft.plan.run_plan import PhasePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnd:
    """What was decided at the end of an epoch."""

    ends_phase: bool
    is_best: bool


def ends_epoch(run: Run, phase: PhasePlan, step: int) -> bool:
    """Return whether an epoch ends after this step of a phase."""
    return (step + 1) % run.plan.steps_per_epoch == 0 or step + 1 == phase.num_steps


def reports_loss(run: Run, step: int) -> bool:
    """Return whether losses are reduced after this step: the same steps on every rank."""
    every = max(1, min(50, run.plan.steps_per_epoch // 10))
    return (step + 1) % every == 0


def report_progress(run: Run, phase: PhasePlan, step: int, loss: float) -> None:
    """Tell how far the run is, and its mean loss since the last report."""
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
            "rows_per_s": run.meter.phase.rows_per_s,
            "wait_fraction": run.meter.phase.wait_fraction,
        },
    )


def take_metrics(run: Run, phase: PhasePlan, step: int, metrics: Mapping[str, float]) -> EpochEnd:
    """Let the policies decide by the metrics of an epoch that ended, and tell of it."""
    run.metrics = dict(metrics)
    early = run.policies.early_stopping
    ends = run.position.phase > phase.index
    if early and early.should_end_phase(metrics) and not ends:
        run.position, ends = run.position.at_next_phase(), True
        run.events.emit("early_end", {"phase": phase.name, "step": step + 1})
    is_best = run.policies.best.take(checkpoint_name(run), metrics)
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
    return EpochEnd(ends_phase=ends, is_best=is_best)


def checkpoint_name(run: Run) -> str:
    """Return the name of a checkpoint of the run as it is now."""
    return f"step-{run.position.steps_done:010d}"


def save(run: Run, *, best: bool) -> None:
    """Write a checkpoint of the run as it is now."""
    name = checkpoint_name(run)
    run.checkpoints.save(name, run.snapshot(), best=run.policies.best.name)
    run.events.emit("checkpoint", {"name": name, "best": best})


def stopped(run: Run) -> Stopped:
    """Return the error that ends a run which was asked to stop, and was saved."""
    return Stopped(
        Problem(
            checkpoint_name(run),
            "stopped as asked; the position is saved",
            "run the same command again to go on",
        )
    )
