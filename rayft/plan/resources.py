"""What the workers ask for, against what the cluster has and can reach."""

from dataclasses import dataclass
from typing import Literal

from rayft.errors import ClusterError, Problem, SpecError
from rayft.plan.facts import ClusterFacts
from rayft.spec.run import ExactReduction, RunSpec

_MOST_AUTO_CPUS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePlan:
    """Workers, their device and their reservations."""

    num_workers: int
    """Ray Train workers; 0 means the calling process."""
    device: Literal["cpu", "cuda", "mps"]
    cpus_per_worker: float
    gpus_per_worker: float
    custom_per_worker: tuple[tuple[str, float], ...]
    threads_per_worker: int
    """Threads that torch computes with."""
    reachable_cpus: float | None
    """CPUs that the cluster has or can grow to; None where it does not say."""
    reachable_gpus: float | None
    free_cpus: float
    """CPUs left over once every worker runs, for Ray Data."""
    must_wait: bool
    """The cluster has too little now, and reaches enough by autoscaling or does not say."""
    warnings: tuple[str, ...]

    @property
    def world_size(self) -> int:
        """Processes that share a step."""
        return max(1, self.num_workers)


def plan_resources(spec: RunSpec, cluster: ClusterFacts) -> ResourcePlan:
    """Decide device and reservations of the workers.

    Raises:
        ClusterError: the cluster cannot reach what the workers need.
        SpecError: a device that is not there, or settings that contradict each other.
    """
    device = _device(spec, cluster)
    scaling = spec.scaling
    world_size = max(1, scaling.num_workers)
    reserved = dict(scaling.resources_per_worker)
    gpus = reserved.pop("GPU", 1.0 if device == "cuda" else 0.0)
    cpus = reserved.pop("CPU", None) or _auto_cpus(spec, cluster, world_size)
    warnings, must_wait = [], False
    if scaling.num_workers:
        for name, need, now, reach in (
            ("CPU", world_size * cpus, cluster.cpus, cluster.max_cpus),
            ("GPU", world_size * gpus, cluster.gpus, cluster.max_gpus),
        ):
            _check_reach(name, need, reach, world_size)
            if need > now:
                must_wait = True
                warnings.append(_waiting(name, need, now, reach, scaling.wait_s))
    return ResourcePlan(
        num_workers=scaling.num_workers,
        device=device,
        cpus_per_worker=cpus,
        gpus_per_worker=gpus,
        custom_per_worker=tuple(sorted(reserved.items())),
        threads_per_worker=max(1, int(cpus)),
        reachable_cpus=cluster.max_cpus,
        reachable_gpus=cluster.max_gpus,
        free_cpus=max(0.0, (cluster.max_cpus or cluster.cpus) - world_size * cpus),
        must_wait=must_wait,
        warnings=tuple(warnings),
    )


def _device(spec: RunSpec, cluster: ClusterFacts) -> Literal["cpu", "cuda", "mps"]:
    wanted, use_gpu = spec.device, spec.scaling.use_gpu
    if wanted == "cpu" and use_gpu is True:
        raise SpecError(
            Problem(
                "scaling.use_gpu",
                "true reserves GPUs while device: cpu leaves them idle",
                "remove one of the two",
            )
        )
    if wanted == "cuda" or use_gpu is True:
        return "cuda"
    if wanted == "cpu" or use_gpu is False:
        return "cpu" if wanted != "mps" else "mps"
    if wanted == "mps":
        return "mps"
    reach = cluster.gpus if cluster.max_gpus is None else cluster.max_gpus
    if cluster.device == "cuda" and reach < max(1, spec.scaling.num_workers):
        return "cpu"
    return cluster.device


def _auto_cpus(spec: RunSpec, cluster: ClusterFacts, world_size: int) -> float:
    if isinstance(spec.reduction, ExactReduction):
        # Threads change the last bits of a sum, so their number must not follow the workers'.
        return 1.0
    available = cluster.cpus if cluster.max_cpus is None else cluster.max_cpus
    return float(max(1, min(_MOST_AUTO_CPUS, int(available // world_size))))


def _check_reach(name: str, need: float, reach: float | None, world_size: int) -> None:
    if reach is None or need <= reach:
        return
    workers = "1 worker needs" if world_size == 1 else f"{world_size} workers need"
    raise ClusterError(
        Problem(
            "scaling.num_workers",
            f"{workers} {need:g} {name}s; the cluster reaches {reach:g}",
            f"lower scaling.num_workers, lower scaling.resources_per_worker.{name}, "
            "or use a larger cluster",
        )
    )


def _waiting(name: str, need: float, now: float, reach: float | None, wait_s: float) -> str:
    limit = "does not say what it can reach" if reach is None else f"can reach {reach:g}"
    return (
        f"the workers need {need:g} {name}s; the cluster has {now:g} and {limit}; "
        f"waiting at most {wait_s:g} s (scaling.wait_s)"
    )
