"""A plan for people, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rayft.plan.ledger import GroupRule
from rayft.plan.run_plan import PhasePlan, RunPlan

_GIB = 2**30


def print_plan(plan: RunPlan, console: Console) -> None:
    """Print what a run will do: data, model, resources, phases."""
    facts = Table.grid(padding=(0, 2))
    for name, text in _lines(plan):
        facts.add_row(Text(name, style="bold"), Text(text))
    console.print(facts)
    for phase in plan.phases:
        console.print(_phase_table(plan, phase))
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def _lines(plan: RunPlan) -> list[tuple[str, str]]:
    return [
        ("run", f"{plan.spec.name}, seed {plan.spec.seed}, into {plan.spec.storage_path}"),
        ("data", _data(plan)),
        ("model", f"{plan.model.backbone} at {plan.model.image_size} px; {plan.model.weights}"),
        ("workers", _workers(plan)),
        ("batch", _batch(plan)),
        ("precision", f"{plan.precision}: {plan.precision_reason}"),
        ("ingest", f"{plan.ingest.kind}: {plan.ingest.reason}"),
        ("memory", _memory(plan)),
        ("best by", plan.best_metric or "the last epoch (there is no validation split)"),
    ]


def _data(plan: RunPlan) -> str:
    about = "" if plan.data.exact else "about "
    rows = ", ".join(
        f"{about}{sum(counts):,} {split}" for split, counts in plan.data.counts.items()
    )
    return (
        f"{rows} rows; {len(plan.data.classes)} classes; row store "
        f"{about}{plan.data.stored_bytes / 2**20:,.0f} MiB"
    )


def _workers(plan: RunPlan) -> str:
    resources = plan.resources
    if not resources.num_workers:
        return f"the calling process on {resources.device}, {resources.threads_per_worker} threads"
    gpus = f" and {resources.gpus_per_worker:g} GPU" if resources.gpus_per_worker else ""
    return (
        f"{resources.num_workers} on {resources.device}, each with {resources.cpus_per_worker:g} "
        f"CPU{gpus}; {resources.free_cpus:g} CPUs stay free"
    )


def _batch(plan: RunPlan) -> str:
    batches = plan.batches
    return (
        f"{batches.global_batch_size} rows a step = {batches.world_size} workers x "
        f"{batches.shards_per_worker} micro-batches x {batches.rows_per_shard} rows "
        f"({plan.rows_reason}); {plan.steps_per_epoch} steps an epoch; "
        f"reduction {plan.spec.reduction.kind}"
    )


def _memory(plan: RunPlan) -> str:
    need = max(phase.memory.total(plan.batches.rows_per_shard) for phase in plan.phases)
    budget = plan.memory_budget_bytes
    of = f" of {budget / _GIB:.1f} GiB" if budget else ""
    return f"about {need / _GIB:.1f} GiB{of} for a worker"


def _phase_table(plan: RunPlan, phase: PhasePlan) -> Table:
    schedule = plan.spec.phases[phase.index].schedule or plan.spec.schedule
    table = Table(
        title=(
            f"phase {phase.index + 1}/{len(plan.phases)} {phase.name}: "
            f"{phase.num_steps} steps in {phase.num_epochs} epochs, {schedule.kind}; "
            f"{phase.ledger.trainable_params:,} parameters train, "
            f"{phase.ledger.frozen_params:,} are frozen"
        ),
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2),
    )
    for column in ("groups", "parameters", "peak learning rate"):
        table.add_column(column, justify="left" if column == "groups" else "right")
    for names, num_params, lr in _runs(phase.ledger.groups):
        table.add_row(names, f"{num_params:,}", f"{lr:.3g}" if lr else "frozen")
    return table


def _runs(groups: Sequence[GroupRule]) -> list[tuple[str, int, float]]:
    """Put neighbours with the same rate into one line."""
    lines = []
    for lr, members in groupby(groups, key=lambda group: group.lr):
        rules = list(members)
        names = rules[0].name if len(rules) == 1 else f"{rules[0].name} .. {rules[-1].name}"
        lines.append((names, sum(rule.num_params for rule in rules), lr))
    return lines


def plan_json(plan: RunPlan) -> dict[str, object]:
    """Return the plan as plain values; parameters are summed by group."""
    return {
        "name": plan.spec.name,
        "model": {
            "backbone": plan.model.backbone,
            "weights": plan.model.weights,
            "image_size": plan.model.image_size,
            "groups": [group.name for group in plan.model.groups],
        },
        "data": {
            "exact": plan.data.exact,
            "classes": list(plan.data.classes),
            "rows": {split: sum(counts) for split, counts in plan.data.counts.items()},
            "stored_bytes": plan.data.stored_bytes,
        },
        "resources": asdict(plan.resources),
        "batch": {**asdict(plan.batches), "rows_per_shard": plan.batches.rows_per_shard},
        "steps_per_epoch": plan.steps_per_epoch,
        "precision": {"kind": plan.precision, "reason": plan.precision_reason},
        "ingest": asdict(plan.ingest),
        "phases": [
            {
                "name": phase.name,
                "steps": phase.num_steps,
                "epochs": phase.num_epochs,
                "trainable_params": phase.ledger.trainable_params,
                "frozen_params": phase.ledger.frozen_params,
                "groups": [asdict(group) for group in phase.ledger.groups],
                "memory_bytes": phase.memory.total(plan.batches.rows_per_shard),
            }
            for phase in plan.phases
        ],
        "warnings": list(plan.warnings),
    }
