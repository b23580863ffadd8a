"""After the last phase: the best checkpoint, and its figures on the test split.

Of a stage, which others go on from, it is the last one, and no test.
"""

from dataclasses import dataclass

from rayft.engine.build import load_evaluated_weights
from rayft.engine.checkpoint_reading import read_checkpoint
from rayft.engine.evaluation import evaluate, finite
from rayft.engine.run import Run
from rayft.metrics import ClassificationReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run has come to."""

    checkpoint: str
    """Name of the best checkpoint; of a stage, of the last one."""
    metrics: dict[str, float]
    """Its metrics on validation, and on test where there is such a split."""
    test_report: ClassificationReport | None


def finish(run: Run) -> Outcome:
    """Evaluate the best checkpoint on the test split; the same on every rank."""
    # Rank 0 has saved by the time it sends the name, so the others find the folder.
    name = run.ranks.broadcast_text(run.policies.best.name or "")
    checkpoint = read_checkpoint(run.checkpoints.place / name)
    saved = checkpoint.manifest["metrics"]
    assert isinstance(saved, dict)
    metrics = {key: float(str(value)) for key, value in saved.items()}
    report = None
    if "test" in run.plan.data.counts:
        load_evaluated_weights(run.model, checkpoint.tensors)
        report = evaluate(
            run.model,
            run.feed,
            "test",
            plan=run.plan,
            device=run.device,
            ranks=run.ranks,
        )
        metrics |= finite(report.metrics(prefix="test/"))
    return Outcome(checkpoint=name, metrics=metrics, test_report=report)


def finish_stage(run: Run) -> Outcome:
    """Return the end of a run that others go on from; the same on every rank."""
    newest = run.checkpoints.names()[-1] if run.ranks.rank == 0 else ""
    name = run.ranks.broadcast_text(newest)
    return Outcome(checkpoint=name, metrics=dict(run.metrics), test_report=None)
