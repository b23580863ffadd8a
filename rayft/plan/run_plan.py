"""The plan of a run: the integers and tables that follow from the spec and the facts.

A pure function, so that what `rayft plan` prints is what every worker does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rayft.plan.batching import BatchPlan, plan_batches
from rayft.plan.borders import check_borders
from rayft.plan.class_weights import ClassWeights, plan_class_weights
from rayft.plan.device import (
    check_augmentation,
    check_batch_norm,
    check_gpus,
    plan_precision,
    rows_per_device,
)
from rayft.plan.facts import ClusterFacts, DataFacts, ModelFacts, Speeds
from rayft.plan.ingest import IngestPlan, plan_ingest
from rayft.plan.keeping import Machine, cache_budget, plan_prefixes
from rayft.plan.ledger import Ledger, make_ledger
from rayft.plan.memory import MemoryEstimate, estimate_memory
from rayft.plan.order import OrderPlan, plan_order
from rayft.plan.phases import (
    PlainPhase,
    phase_image_size,
    plain_phases,
    with_plain_phases,
)
from rayft.plan.prefix import PrefixPlan
from rayft.plan.resources import ResourcePlan, plan_resources
from rayft.plan.schedule import ExponentialRise, Schedule, length_in_steps, make_schedule
from rayft.plan.selectors import group_names
from rayft.plan.storage import traveling_size
from rayft.plan.warnings import warnings_of
from rayft.spec.run import RunSpec
from rayft.spec.training import SGD, PhaseSpec

_MOST_EVALUATION_ROWS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """One phase: what trains, and the steps it takes."""

    index: int
    name: str
    where: str
    """Path in the spec of the phase that it was made from: `phases.1`."""
    ledger: Ledger
    schedule: Schedule | ExponentialRise
    num_steps: int
    num_epochs: int
    """Epochs begun; the last may be cut short where the phase is given in steps."""
    first_step: int
    """Steps planned before this phase."""
    first_epoch: int
    """Epochs planned before this phase: row order and augmentation go on, never repeat."""
    image_size: int
    """Height and width in pixels that the model is trained at."""
    memory: MemoryEstimate
    prefix: PrefixPlan | None
    """What does not train, and has not trained before; None where the lowest group trains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Everything a run will do."""

    spec: RunSpec
    """With its phases as they will run: no shares, and a phase for every thaw."""
    model: ModelFacts
    data: DataFacts
    resources: ResourcePlan
    batches: BatchPlan
    max_rows_per_device: int
    """Most rows a device holds at once."""
    rows_reason: str
    """Why a device holds this many rows at once."""
    evaluation_rows: int
    """Rows of every batch in evaluation, on any number of workers."""
    phases: tuple[PhasePlan, ...]
    steps_per_epoch: int
    precision: Literal["fp32", "bf16"]
    precision_reason: str
    ingest: IngestPlan
    order: OrderPlan
    speeds: Speeds
    cache_budget: int
    """Bytes that kept rows of all runs may take together."""
    class_weights: Mapping[str, ClassWeights]
    """For each head the weight of each class in the loss, None where all are 1."""
    best_metric: str | None
    memory_budget_bytes: int
    """Memory of a worker's device."""
    warnings: tuple[str, ...]

    @property
    def phase_of_last_prefix(self) -> PhasePlan | None:
        """The phase below whose cut no phase trains, so that all checkpoints agree there."""
        last = self.phases[-1]
        return last if last.prefix else None

    @property
    def num_steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.num_steps for phase in self.phases)

    def rows_of_step(self, step_in_epoch: int) -> slice:
        """Return the places of a step's rows in the epoch's order; the last step may be short."""
        size = self.batches.global_batch_size
        first = step_in_epoch * size
        return slice(first, min(first + size, self.data.num_rows("train")))


def make_plan(
    spec: RunSpec,
    *,
    model: ModelFacts,
    data: DataFacts,
    cluster: ClusterFacts,
    speeds: Speeds,
) -> RunPlan:
    """Work out what a run will do.

    Raises:
        SpecError: the spec does not fit the model or the data.
        ClusterError: the cluster cannot reach what the workers need.
    """
    check_borders(spec.augment, image_size=model.image_size)
    resources = plan_resources(spec, cluster)
    check_gpus(cluster, resources)
    precision, precision_reason = plan_precision(spec, cluster, speeds, device=resources.device)
    steps_per_epoch = -(-data.num_rows("train") // spec.global_batch_size)
    plain = plain_phases(spec, group_names(model), steps_per_epoch=steps_per_epoch)
    spec = with_plain_phases(spec, plain)
    phases = _phases(spec, plain, model, steps_per_epoch, precision, resources)
    budget = resources.memory_bytes
    limit, rows_reason = rows_per_device(
        spec,
        [phase.memory for phase in phases],
        budget=budget,
        world_size=resources.world_size,
    )
    batches = plan_batches(
        spec.global_batch_size,
        world_size=resources.world_size,
        max_rows_per_shard=limit,
        reduction=spec.reduction,
    )
    check_batch_norm(spec, resources)
    check_augmentation(spec, resources)
    kept_bytes = cache_budget(spec, data, cluster)
    prefixes = plan_prefixes(
        spec,
        model,
        data,
        phases,
        Machine(
            device=resources.device,
            num_workers=resources.num_workers,
            speeds=speeds,
            budget=kept_bytes,
            rows_per_shard=batches.rows_per_shard,
            precision=precision,
        ),
    )
    phases = tuple(
        replace(phase, prefix=prefix) for phase, prefix in zip(phases, prefixes, strict=True)
    )
    return RunPlan(
        spec=spec,
        model=model,
        data=data,
        resources=resources,
        batches=batches,
        max_rows_per_device=limit,
        rows_reason=rows_reason,
        evaluation_rows=min(limit, _MOST_EVALUATION_ROWS),
        phases=phases,
        steps_per_epoch=steps_per_epoch,
        precision=precision,
        precision_reason=precision_reason,
        ingest=plan_ingest(
            spec.ingest,
            resources,
            prepare_rows_per_s=speeds.prepare_rows_per_s,
            model_rows_per_s=(precision == "bf16" and speeds.bf16_rows_per_s)
            or speeds.fp32_rows_per_s,
        ),
        order=plan_order(spec, data),
        speeds=speeds,
        cache_budget=kept_bytes,
        class_weights=plan_class_weights(spec, data),
        best_metric=spec.best_metric
        or ("validation/accuracy" if "validation" in data.counts else None),
        memory_budget_bytes=budget,
        warnings=warnings_of(spec, model, data, resources, [phase.ledger for phase in phases]),
    )


def _phases(
    spec: RunSpec,
    plain: tuple[PlainPhase, ...],
    model: ModelFacts,
    steps_per_epoch: int,
    precision: str,
    resources: ResourcePlan,
) -> tuple[PhasePlan, ...]:
    phases: list[PhasePlan] = []
    first_step = first_epoch = 0
    for index, (phase, where) in enumerate((one.spec, one.where) for one in plain):
        num_steps = length_in_steps(phase.for_, 0, steps_per_epoch)
        num_epochs = -(-num_steps // steps_per_epoch)
        decay = spec.optimizer.weight_decay
        ledger = make_ledger(phase, model, weight_decay=decay, where=where)
        image_size = phase_image_size(phase, model, where=where)
        phases.append(
            PhasePlan(
                index=index,
                name=phase.name,
                where=where,
                ledger=ledger,
                schedule=_schedule(spec, phase, num_steps, steps_per_epoch),
                num_steps=num_steps,
                num_epochs=num_epochs,
                first_step=first_step,
                first_epoch=first_epoch,
                image_size=image_size,
                prefix=None,
                memory=estimate_memory(
                    model,
                    ledger,
                    image_size=image_size,
                    state_tensors=(1 if isinstance(spec.optimizer, SGD) else 2)
                    + (1 if spec.ema else 0)
                    + (1 if spec.optimizer.decay_towards == "pretrained" else 0),
                    activation_bytes=2 if precision == "bf16" else 4,
                    on_cpu=resources.device == "cpu",
                ).beside(_pending_bytes(spec, model)),
            )
        )
        first_step += num_steps
        first_epoch += num_epochs
    return tuple(phases)


def _pending_bytes(spec: RunSpec, model: ModelFacts) -> int:
    """Return the bytes of a stored image where the device is to augment it.

    What augmentation needs beside the images is free again before the forward pass begins.
    """
    if spec.augment_on == "host":
        return 0
    return model.channels * traveling_size(spec, image_size=model.image_size) ** 2


def _schedule(spec: RunSpec, phase: PhaseSpec, num_steps: int, steps_per_epoch: int) -> Schedule:
    return make_schedule(
        phase.schedule or spec.schedule, num_steps=num_steps, steps_per_epoch=steps_per_epoch
    )
