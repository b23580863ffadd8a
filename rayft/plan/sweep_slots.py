"""How many units of a sweep run at a time, and what each of them reserves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rayft.errors import ClusterError, Problem
from rayft.plan.facts import ClusterFacts
from rayft.plan.placement import in_words, most_workers, times
from rayft.plan.resources import ResourcePlan

_MOST_CPUS = 8
_UNSAID = 8
"""Units at a time on a cluster that does not say what it can reach, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Units at a time."""

    number: int
    """Units that run at the same time."""
    unit: Mapping[str, float]
    """What one unit reserves in all: its workers, and tasks of Ray Data beside them."""
    reason: str
    """Where the number comes from, in words."""


def cpus_of_trials(
    cluster: ClusterFacts,
    resources: ResourcePlan,
    *,
    ingest: Literal["in_process", "ray_data"],
    units: int,
) -> float:
    """Return the CPUs that each worker of a trial gets where its spec leaves them open.

    As many trials as there is room for run side by side, with a thread each: that is faster than
    one after another with all threads. They get more as far as that costs none of them its place
    on a node. Fewer trials than there is room for share all CPUs; beside GPUs, those of the GPUs
    that they use.

    Args:
        cluster: what there is; one that does not say what it reaches counts as it is.
        resources: what the workers of a trial ask for beside CPUs.
        ingest: where batches are made.
        units: units that could run at a time.
    """
    cluster = _as_it_is(cluster)
    worker, beside = _worker(resources), _beside(ingest, resources)

    def held(cpus: int) -> int:
        return _most(cluster, {**worker, "CPU": cpus}, resources.world_size, beside) or 0

    at_once = held(1) if worker["GPU"] else min(units, held(1))
    chosen = (cpus for cpus in range(_MOST_CPUS, 1, -1) if held(cpus) >= max(1, at_once))
    return float(next(chosen, 1))


def plan_slots(
    cluster: ClusterFacts,
    resources: ResourcePlan,
    *,
    ingest: Literal["in_process", "ray_data"],
    asked: int | Literal["auto"],
) -> Slots:
    """Return how many units run at a time, all that they reserve added up.

    A unit with one worker is that worker; one with several drives Ray Train workers, and takes no
    CPU itself. Ray Data needs a CPU beside each worker.

    Raises:
        ClusterError: not one fits, or fewer than asked for.
    """
    worker, beside = _worker(resources), _beside(ingest, resources)
    unit = _unit(worker, resources.world_size, beside)
    words = f"{resources.world_size} worker(s) of {in_words(worker)}" + (
        f", and {beside:g} CPU for Ray Data" if beside else ""
    )
    most = _most(cluster, worker, resources.world_size, beside)
    if most is None:
        number = _UNSAID if asked == "auto" else asked
        return Slots(number=number, unit=unit, reason="the cluster does not say what it reaches")
    wanted = 1 if asked == "auto" else asked
    if most < wanted:
        total = {name: wanted * amount for name, amount in unit.items()}
        raise ClusterError(
            Problem(
                "max_concurrent" if asked != "auto" else "run.scaling",
                f"{wanted} trial(s) at a time reserve {in_words(total)} ({words} each); "
                f"the cluster reaches {_reach(cluster)}, which holds {most}",
                "lower max_concurrent, the trials' workers or their reservations, or use a larger "
                "cluster",
            )
        )
    number = most if asked == "auto" else asked
    return Slots(number=number, unit=unit, reason=f"{words} each; {_reach(cluster)}")


def _worker(resources: ResourcePlan) -> dict[str, float]:
    """Return what one worker reserves."""
    return {
        "CPU": resources.cpus_per_worker,
        "GPU": resources.gpus_per_worker,
        **dict(resources.custom_per_worker),
    }


def _beside(ingest: Literal["in_process", "ray_data"], resources: ResourcePlan) -> float:
    """Return the CPUs of Ray Data's tasks: as `plan_ingest` asks, one for each worker's stream."""
    return float(resources.num_workers) if ingest == "ray_data" else 0.0


def _unit(worker: Mapping[str, float], workers: int, beside: float) -> dict[str, float]:
    """Return what one unit reserves in all."""
    unit = {name: workers * amount for name, amount in worker.items() if amount}
    return {**unit, "CPU": unit.get("CPU", 0.0) + beside}


def _most(
    cluster: ClusterFacts, worker: Mapping[str, float], workers: int, beside: float
) -> int | None:
    """Return how many units the cluster can hold; None where it does not say."""
    held = most_workers(cluster, worker)
    if held is None:
        return None
    unit = _unit(worker, workers, beside)
    reach = {"CPU": cluster.max_cpus, "GPU": cluster.max_gpus}
    sums = [
        times(unit[name], total)
        for name, total in reach.items()
        if total is not None and unit.get(name)
    ]
    return min([held // workers, *sums])


def _as_it_is(cluster: ClusterFacts) -> ClusterFacts:
    """Return the cluster, or where it does not say what it reaches, one that does not grow."""
    if cluster.max_cpus is not None:
        return cluster
    return replace(cluster, max_cpus=cluster.cpus, max_gpus=cluster.gpus)


def _reach(cluster: ClusterFacts) -> str:
    reach = {"CPU": cluster.max_cpus or 0.0, "GPU": cluster.max_gpus or 0.0}
    return f"{in_words(reach)} in all"
