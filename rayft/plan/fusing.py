"""Which runs can train fused: their heads as one batched model on what one frozen backbone makes.

Runs with equal keys see the same features of the same rows and take steps of the same sizes. They
may differ in what only scales or masks a head's own numbers: rates, schedules, weight decay, label
smoothing, dropout and, where the backbone does not follow from it, the seed.
"""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.spec.run import ExactReduction

_OWN = ("name", "storage_path", "schedule", "seed")
"""Settings of the run in which its members may differ."""


def fuse_key(plan: RunPlan) -> str | None:
    """Return a text that is equal for runs that can train fused; None where this one cannot.

    Phases that end early do not stand against it: a member waits at the end of its phase until
    the others get there.
    """
    if why_not(plan):
        return None
    written: dict[str, Any] = plan.spec.model_dump(mode="json", by_alias=True)
    backbone = plan.spec.model.backbone
    # The seed makes every weight that is not loaded, so it would make another backbone.
    own = _OWN if plan.model.pretrained and not backbone.insert else _OWN[:-1]
    _leave_out(written, own)
    _leave_out(written["optimizer"], ("weight_decay",))
    for phase in written["phases"]:
        _leave_out(phase, ("lr", "schedule"))
    for head in written["model"]["heads"].values():
        _leave_out(head, ("dropout", "label_smoothing"))
    content = {
        "spec": written,
        "classes": plan.data.classes,
        "counts": plan.data.counts,
        "batches": asdict(plan.batches),
        "evaluation_rows": plan.evaluation_rows,
        "precision": plan.precision,
        "device": plan.resources.device,
        "threads": plan.resources.threads_per_worker,
        "phases": [_shape(phase) for phase in plan.phases],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _leave_out(written: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        written.pop(name)


def _shape(phase: PhasePlan) -> list[Any]:
    """Return what members must have in common in a phase."""
    prefix = phase.prefix
    assert prefix is not None
    return [phase.num_steps, prefix.cut, prefix.rows, prefix.views, prefix.dtype, prefix.shape]


def why_not(plan: RunPlan) -> str:
    """Return why a run cannot train fused with others, in words; empty where it can."""
    spec = plan.spec
    against = {
        f"it has {plan.resources.world_size} workers": plan.resources.world_size > 1,
        "reduction: exact promises bits that a batched model does not give": isinstance(
            spec.reduction, ExactReduction
        ),
        "ema averages weights of its own": spec.ema is not None,
        "test_time takes views of the images, through all layers": spec.test_time is not None,
        "torch_compile compiles a model of its own": spec.torch_compile,
        "optimizer.decay_towards: pretrained is for a backbone that trains": (
            spec.optimizer.decay_towards != "zero"
        ),
    }
    found = next((reason for reason, holds in against.items() if holds), "")
    return found or next(filter(None, map(_against, plan.phases)), "")


def _against(phase: PhasePlan) -> str:
    """Return what stands against a phase; empty where nothing does."""
    trained = [rule.name for rule in phase.ledger.groups if rule.trains]
    deeper = [name for name in trained if not name.startswith("heads.")]
    if deeper:
        return f"phase {phase.name} trains {deeper[0]}, which is no head"
    if phase.prefix is None or not phase.prefix.is_whole:
        return f"phase {phase.name} begins from layers that an earlier phase trains"
    if not phase.prefix.keeps:
        return f"phase {phase.name} does not keep features: {phase.prefix.reason}"
    return ""
