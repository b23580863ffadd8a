"""What the state of a run after each of its phases depends on, as keys, and a run cut off there.

Two runs with equal keys for a phase are bit for bit in the same state at its end. A key is safe by
default: all of the spec is in it, but for what is named here.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace

from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.spec.run import RunSpec
from rayft.spec.training import CosineSchedule, EarlyStoppingSpec, PhaseSpec, PlateauSpec

_WITHOUT_EFFECT = frozenset({"name", "storage_path", "checkpoint", "ingest"})
"""Settings that change where and how fast a run goes, and not what it computes."""
_PLANNED = frozenset(
    {
        "phases",
        "total",
        "schedule",
        "early_stopping",
        "best_metric",
        "cache",
        "precision",
        "device",
        "rows_per_device",
        "scaling",
    }
)
"""Settings in whose place stands what the plan made of them."""
_PLANNED_OF_PHASE = frozenset(
    {"name", "train", "for_", "until", "lr", "schedule", "image_size", "unfreeze"}
)
_KEY_LENGTH = 16
"""Hexadecimal digits: a million keys hold two that agree by chance once in 37 million times."""


def stage_keys(plan: RunPlan) -> tuple[str, ...]:
    """Return for each plain phase a key of all that the run's state after it depends on.

    The state is weights, optimizer, averages, policies, metrics and position. What the run's later
    phases are is in no key, so runs that differ only there share the keys of what comes before.

    Before the rows are prepared a plan holds expectations, and its keys are not those it has later;
    which of them are equal is the same.
    """
    keys: list[str] = []
    before = _digest(_common(plan))
    for phase, spec in zip(plan.phases, plan.spec.phases, strict=True):
        before = _digest({"before": before, **_of_phase(plan, phase, spec)})
        keys.append(before[:_KEY_LENGTH])
    return tuple(keys)


def stage_plan(
    plan: RunPlan,
    stops_before: int,
    *,
    name: str | None = None,
    storage_path: str | None = None,
) -> RunPlan:
    """Return the plan of a run that ends before a phase: a stage, whose state others take up.

    Its spec says nothing of the phases that are cut off, and so is the same whichever of the runs
    that share it is cut.

    Args:
        plan: of a run that has the phases.
        stops_before: index of the first plain phase that is cut off; 0 cuts nothing off.
        name: name of the run, where it is to be another.
        storage_path: where its folder lies, where that is to be another.
    """
    places = {"name": name, "storage_path": storage_path}
    changes: dict[str, object] = {key: place for key, place in places.items() if place is not None}
    if stops_before:
        changes |= {
            "phases": tuple(
                _by_itself(plan.spec, phase) for phase in plan.spec.phases[:stops_before]
            ),
            "total": None,
            "schedule": CosineSchedule(kind="cosine"),
            "early_stopping": None,
        }
    return replace(
        plan,
        spec=plan.spec.model_copy(update=changes),
        phases=plan.phases[: stops_before or None],
    )


def _by_itself(spec: RunSpec, phase: PhaseSpec) -> PhaseSpec:
    """Return a phase that needs no setting of the run's."""
    return phase.model_copy(
        update={"schedule": phase.schedule or spec.schedule, "until": _ending(spec, phase)}
    )


def _ending(spec: RunSpec, phase: PhaseSpec) -> PlateauSpec | None:
    """Return the rule by which a phase may end early, its own or the run's."""
    run: EarlyStoppingSpec | None = spec.early_stopping
    if phase.until or run is None:
        return phase.until
    return PlateauSpec(plateau=run.metric, patience=run.patience, min_delta=run.min_delta)


def _common(plan: RunPlan) -> dict[str, object]:
    """Return what all phases depend on."""
    left_out = set(_WITHOUT_EFFECT | _PLANNED)
    batches, resources, order = plan.batches, plan.resources, plan.order
    return {
        "spec": plan.spec.model_dump(mode="json", exclude=left_out),
        "best_metric": plan.best_metric,
        "classes": plan.data.classes,
        "counts": dict(plan.data.counts),
        "class_weights": dict(plan.class_weights),
        "image_size": plan.model.image_size,
        "mean": plan.model.mean,
        "std": plan.model.std,
        "order": [order.kind, order.rows_per_shard, order.shards_per_window, order.num_shards],
        # The last bits depend on these.
        "device": resources.device,
        "precision": plan.precision,
        "world_size": resources.world_size,
        "threads": resources.threads_per_worker,
        "shards": batches.num_shards,
        "evaluation_rows": plan.evaluation_rows,
    }


def _of_phase(plan: RunPlan, phase: PhasePlan, spec: PhaseSpec) -> dict[str, object]:
    """Return what one phase adds."""
    ending, prefix = _ending(plan.spec, spec), phase.prefix
    return {
        "spec": spec.model_dump(mode="json", exclude=set(_PLANNED_OF_PHASE)),
        "ledger": asdict(phase.ledger),
        "schedule": [type(phase.schedule).__name__, asdict(phase.schedule)],
        "num_steps": phase.num_steps,
        "first_step": phase.first_step,
        "first_epoch": phase.first_epoch,
        "image_size": phase.image_size,
        "ending": ending and ending.model_dump(mode="json"),
        # Whether it is kept changes no bit (ADR 0023).
        "prefix": prefix and [prefix.cut, prefix.rows, prefix.views, prefix.dtype],
    }


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
