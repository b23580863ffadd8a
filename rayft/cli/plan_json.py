"""A plan as JSON."""

from dataclasses import asdict

from rayft.plan.run_plan import RunPlan


def plan_json(plan: RunPlan) -> dict[str, object]:
    """Return the plan as plain values; parameters are summed by group."""
    return {
        "name": plan.spec.name,
        "model": {
            "backbone": plan.model.backbone,
            "weights": plan.model.weights,
            "image_size": plan.model.image_size,
            "channels": plan.model.channels,
            "groups": [group.name for group in plan.model.groups],
            "maps": dict(plan.model.maps),
        },
        "data": {
            "exact": plan.data.exact,
            "classes": list(plan.data.classes),
            "rows": {split: sum(counts) for split, counts in plan.data.counts.items()},
            "stored_bytes": plan.data.stored_bytes,
            "stored_as": plan.data.stored_as,
            "left_out": plan.data.num_left_out,
        },
        "resources": asdict(plan.resources),
        "batch": {**asdict(plan.batches), "rows_per_shard": plan.batches.rows_per_shard},
        "steps_per_epoch": plan.steps_per_epoch,
        "precision": {"kind": plan.precision, "reason": plan.precision_reason},
        "augment_on": plan.spec.augment_on,
        "ingest": asdict(plan.ingest),
        "order": asdict(plan.order),
        "phases": [
            {
                "name": phase.name,
                "steps": phase.num_steps,
                "epochs": phase.num_epochs,
                "image_size": phase.image_size,
                "prefix": asdict(phase.prefix) if phase.prefix else None,
                "trainable_params": phase.ledger.trainable_params,
                "frozen_params": phase.ledger.frozen_params,
                "groups": [asdict(group) for group in phase.ledger.groups],
                "memory_bytes": phase.memory.total(plan.batches.rows_per_shard),
            }
            for phase in plan.phases
        ],
        "warnings": list(plan.warnings),
    }
