"""How many units of a sweep run at a time, and what each of them reserves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rayft.errors import ClusterError, Problem
from rayft.plan.facts import ClusterFacts
from rayft.plan.placement import in_words, most_workers
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


def cpus_of_trials(cluster: ClusterFacts, *, units: int, use_gpu: bool) -> float:
    """Return the CPUs that each one-worker trial gets where its spec leaves them open.

    As many trials as there are CPUs run side by side, with a thread each: that is faster than one
    after another with all threads. Fewer trials than CPUs share them; beside GPUs, CPUs are shared
    by GPU.

    Args:
        cluster: what there is.
        units: units that could run at a time.
        use_gpu: whether trials compute on GPUs.
    """
    total = cluster.cpus if cluster.max_cpus is None else cluster.max_cpus
    gpus = cluster.gpus if cluster.max_gpus is None else cluster.max_gpus
    side_by_side = gpus if use_gpu else min(total, float(max(1, units)))
    return float(max(1, min(_MOST_CPUS, int(total // max(1.0, side_by_side)))))


def plan_slots(
    cluster: ClusterFacts,
    resources: ResourcePlan,
    *,
    ingest: Literal["in_process", "ray_data"],
    asked: int | Literal["auto"],
) -> Slots:
    """Return how many units run at a time, all that they reserve added up.

    A unit with one worker is that worker; one with several drives Ray Train workers, and takes no
    CPU itself. Ray Data needs a CPU beside the workers of each.

    Raises:
        ClusterError: not one fits, or fewer than asked for.
    """
    worker = {
        "CPU": resources.cpus_per_worker,
        "GPU": resources.gpus_per_worker,
        **dict(resources.custom_per_worker),
    }
    beside = 1.0 if ingest == "ray_data" else 0.0
    unit = {name: resources.world_size * amount for name, amount in worker.items() if amount}
    unit["CPU"] = unit.get("CPU", 0.0) + beside
    words = f"{resources.world_size} worker(s) of {in_words(worker)}" + (
        ", and 1 CPU for Ray Data" if beside else ""
    )
    most = _most(cluster, worker, unit, resources.world_size)
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


def _most(
    cluster: ClusterFacts, worker: Mapping[str, float], unit: Mapping[str, float], workers: int
) -> int | None:
    held = most_workers(cluster, worker)
    if held is None:
        return None
    reach = {"CPU": cluster.max_cpus, "GPU": cluster.max_gpus}
    sums = [
        int(total // unit[name])
        for name, total in reach.items()
        if total is not None and unit.get(name)
    ]
    return min([held // workers, *sums])


def _reach(cluster: ClusterFacts) -> str:
    reach = {"CPU": cluster.max_cpus or 0.0, "GPU": cluster.max_gpus or 0.0}
    return f"{in_words(reach)} in all"
