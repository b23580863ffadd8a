"""After the last phase of runs that trained fused: the best of each, on the test split."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from rayft.engine.checkpoint_reading import read_checkpoint
from rayft.engine.evaluation import finite
from rayft.engine.finish import Outcome
from rayft.engine.fused_evaluation import evaluate_members
from rayft.engine.member import Member
from rayft.errors import RayftError


def finish_fused(members: Sequence[Member]) -> list[Outcome | RayftError]:
    """Evaluate each member's best checkpoint on the test split, or say why it cannot be.

    Afterwards the members' heads are those of their best checkpoints.
    """
    found = [_take_best(member) for member in members]
    good = [member for member, best in zip(members, found, strict=True) if isinstance(best, dict)]
    has_test = bool(good) and "test" in good[0].run.plan.data.counts
    reports = iter(evaluate_members(good, "test") if has_test else [None] * len(good))
    outcomes: list[Outcome | RayftError] = []
    for member, metrics in zip(members, found, strict=True):
        if isinstance(metrics, RayftError):
            outcomes.append(metrics)
            continue
        report = next(reports)
        if isinstance(report, RayftError):
            outcomes.append(report)
            continue
        name = member.run.policies.best.name
        assert name is not None
        on_test = finite(report.metrics(prefix="test/")) if report else {}
        outcomes.append(Outcome(checkpoint=name, metrics=metrics | on_test, test_report=report))
    return outcomes


def best_metrics(member: Member) -> dict[str, float]:
    """Return the metrics of a member's best checkpoint; none where there is no checkpoint."""
    name = member.run.policies.best.name
    if name is None:
        return {}
    return _best(member, name)[1]


def _take_best(member: Member) -> dict[str, float] | RayftError:
    """Load a member's best head; return its metrics."""
    try:
        heads, metrics = _best(member, member.run.policies.best.name or "")
    except RayftError as error:
        return error
    # What is not named is the backbone, which no member changed.
    member.run.model.load_state_dict(dict(heads), strict=False)
    return metrics


def _best(member: Member, name: str) -> tuple[Mapping[str, Tensor], dict[str, float]]:
    """Return the tensors of a member's best head by name, and its metrics."""
    if member.best is not None and member.best.name == name:
        return member.best.heads, dict(member.best.metrics)
    checkpoint = read_checkpoint(member.run.checkpoints.place / name)
    saved = checkpoint.manifest["metrics"]
    assert isinstance(saved, dict)
    model = checkpoint.tensors["model"]
    heads = {key: value for key, value in model.items() if key.startswith("heads.")}
    return heads, {key: float(str(value)) for key, value in saved.items()}
