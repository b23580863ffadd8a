"""Where batches are made: in the worker's process or in Ray Data tasks, and why."""

from dataclasses import dataclass
from typing import Literal

from rayft.errors import Problem, SpecError
from rayft.plan.resources import ResourcePlan

_COMFORTABLE = 2.0
"""Batches are made ahead in a thread: twice the pace of the model leaves nothing to wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPlan:
    """The choice and its reason."""

    kind: Literal["in_process", "ray_data"]
    reason: str


def plan_ingest(
    wanted: Literal["auto", "in_process", "ray_data"],
    resources: ResourcePlan,
    *,
    prepare_rows_per_s: float,
    model_rows_per_s: float,
) -> IngestPlan:
    """Choose where batches are made. The bytes of a batch do not depend on it.

    Args:
        wanted: what the spec asks for.
        resources: the workers, and the CPUs left beside them.
        prepare_rows_per_s: rows that one thread gathers and augments.
        model_rows_per_s: rows that one worker trains.

    Raises:
        SpecError: Ray Data was asked for and no CPU is left for it. Its coordinator divides the
            free CPUs by the number of executions and rounds down: with 0 the run would hang.
    """
    executions = resources.num_workers
    enough = executions > 0 and resources.free_cpus >= executions
    if wanted == "in_process":
        return IngestPlan(kind="in_process", reason="asked for")
    if wanted == "ray_data":
        if not enough:
            raise _no_cpu_left(resources)
        return IngestPlan(kind="ray_data", reason="asked for")
    pace = f"{prepare_rows_per_s:,.0f} rows/s are prepared in one thread"
    need = f"{model_rows_per_s:,.0f} rows/s that a worker trains"
    if prepare_rows_per_s >= _COMFORTABLE * model_rows_per_s:
        return IngestPlan(kind="in_process", reason=f"{pace}, enough for {need}")
    if not enough:
        return IngestPlan(
            kind="in_process",
            reason=f"{pace} against {need}; Ray Data would need {max(1, executions)} free CPUs, "
            f"{resources.free_cpus:g} are left",
        )
    return IngestPlan(
        kind="ray_data",
        reason=f"{pace} against {need}; {resources.free_cpus:g} CPUs are free for Ray Data",
    )


def _no_cpu_left(resources: ResourcePlan) -> SpecError:
    if not resources.num_workers:
        return SpecError(
            Problem(
                "ingest",
                "ray_data needs Ray workers; scaling.num_workers is 0",
                "use ingest: in_process, or at least 1 worker",
            )
        )
    return SpecError(
        Problem(
            "ingest",
            f"ray_data needs a free CPU for each of {resources.num_workers} workers; "
            f"{resources.free_cpus:g} CPUs are left beside them",
            "use ingest: in_process, fewer workers, or fewer CPUs for each worker",
        )
    )
