"""What the workers ask for, against what the cluster has and can reach."""

from collections.abc import Mapping
from dataclasses import dataclass

from rayft.errors import ClusterError, Problem
from rayft.plan.facts import ClusterFacts, DeviceName
from rayft.plan.gpus import check_own_gpu, check_reserved_gpus, choose_device, idle_gpus
from rayft.plan.placement import check_placement, in_words, most_workers, worker_memory, workers_now
from rayft.spec.run import ExactReduction, RunSpec

_MOST_AUTO_CPUS = 8
_COUNTED = ("CPU", "GPU")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePlan:
    """Workers, their device and their reservations."""

    num_workers: int
    """Ray Train workers; 0 means the calling process."""
    device: DeviceName
    gpu_names: tuple[str, ...]
    """Kinds of the GPUs that workers compute on, as far as they are known."""
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
    memory_bytes: int
    """Memory that one worker can count on, on its device; 0 where it is not known."""
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
        SpecError: settings that contradict each other.
    """
    device = choose_device(spec, cluster)
    check_reserved_gpus(spec, device)
    check_own_gpu(spec, cluster, device)
    scaling = spec.scaling
    world_size = max(1, scaling.num_workers)
    need = _need(spec, cluster, device)
    warnings = []
    if scaling.num_workers:
        _check_reach(cluster, need, world_size)
        check_placement(cluster, need, world_size)
        warnings = _shortages(cluster, need, world_size, scaling.wait_s)
    must_wait = bool(warnings)
    warnings += idle_gpus(spec, cluster, device)
    if must_wait and _guesses_cpus(spec, cluster):
        warnings.append(
            f"each worker reserves {need['CPU']:g} CPU until the nodes are there, because the "
            "cluster does not say what they have; scaling.resources_per_worker.CPU sets it"
        )
    if device == "cuda" and not cluster.gpu_memory_bytes:
        warnings.append(
            "no GPU is there yet to ask for its memory: how many rows it holds at once is planned "
            "when it has come"
        )
    cpus, gpus = need["CPU"], need["GPU"]
    return ResourcePlan(
        num_workers=scaling.num_workers,
        device=device,
        gpu_names=cluster.gpu_names if device == "cuda" else (),
        cpus_per_worker=cpus,
        gpus_per_worker=gpus,
        custom_per_worker=tuple(sorted(item for item in need.items() if item[0] not in _COUNTED)),
        threads_per_worker=max(1, int(cpus)),
        reachable_cpus=cluster.max_cpus,
        reachable_gpus=cluster.max_gpus,
        free_cpus=max(0.0, (cluster.max_cpus or cluster.cpus) - world_size * cpus),
        memory_bytes=_memory(cluster, need, device, world_size),
        must_wait=must_wait,
        warnings=tuple(warnings),
    )


def _need(spec: RunSpec, cluster: ClusterFacts, device: DeviceName) -> dict[str, float]:
    """Return what one worker reserves, of every resource."""
    need = {"CPU": 0.0, "GPU": 1.0 if device == "cuda" else 0.0}
    need |= spec.scaling.resources_per_worker
    if not need["CPU"]:
        need["CPU"] = _auto_cpus(spec, cluster, need)
    return need


def _memory(
    cluster: ClusterFacts,
    need: Mapping[str, float],
    device: DeviceName,
    world_size: int,
) -> int:
    if device == "cuda":
        return int(cluster.gpu_memory_bytes * min(1.0, need["GPU"]))
    return worker_memory(cluster, need, world_size)


def _auto_cpus(spec: RunSpec, cluster: ClusterFacts, need: Mapping[str, float]) -> float:
    """Return an equal share of the CPUs, or as much of it as lets every worker find a node.

    Where the cluster does not say what it can reach, the nodes that are there count: while they do
    not hold the workers, each gets one CPU, which fits on whatever comes.
    """
    if isinstance(spec.reduction, ExactReduction):
        # Threads change the last bits of a sum, so their number must not follow the workers'.
        return 1.0
    world_size = max(1, spec.scaling.num_workers)
    available = cluster.cpus if cluster.max_cpus is None else cluster.max_cpus
    most = max(1, min(_MOST_AUTO_CPUS, int(available // world_size)))
    for cpus in range(most, 1, -1):
        room = _room(cluster, {**need, "CPU": cpus})
        if room is None or room >= world_size:
            return float(cpus)
    return 1.0


def _room(cluster: ClusterFacts, need: Mapping[str, float]) -> int | None:
    """Return how many workers the cluster can hold, as far as it says; None without nodes."""
    known = most_workers(cluster, need)
    return workers_now(cluster, need) if known is None and cluster.nodes else known


def _guesses_cpus(spec: RunSpec, cluster: ClusterFacts) -> bool:
    """Return whether the CPUs of a worker are a guess, because its node is still to come."""
    is_open = "CPU" not in spec.scaling.resources_per_worker
    return is_open and cluster.max_cpus is None and not isinstance(spec.reduction, ExactReduction)


def _check_reach(cluster: ClusterFacts, need: Mapping[str, float], world_size: int) -> None:
    workers = "1 worker needs" if world_size == 1 else f"{world_size} workers need"
    for name, reach in (("CPU", cluster.max_cpus), ("GPU", cluster.max_gpus)):
        if reach is not None and world_size * need[name] > reach:
            raise ClusterError(
                Problem(
                    "scaling.num_workers",
                    f"{workers} {world_size * need[name]:g} {name}s; the cluster reaches {reach:g}",
                    f"lower scaling.num_workers, lower scaling.resources_per_worker.{name}, "
                    "or use a larger cluster",
                )
            )


def _shortages(
    cluster: ClusterFacts, need: Mapping[str, float], world_size: int, wait_s: float
) -> list[str]:
    """Say what the cluster lacks now, and may still get."""
    wait = f"waiting at most {wait_s:g} s (scaling.wait_s)"
    found = []
    for name, now, reach in (
        ("CPU", cluster.cpus, cluster.max_cpus),
        ("GPU", cluster.gpus, cluster.max_gpus),
    ):
        wanted = world_size * need[name]
        if wanted > now:
            limit = "does not say what it can reach" if reach is None else f"can reach {reach:g}"
            found.append(
                f"the workers need {wanted:g} {name}s; the cluster has {now:g} and {limit}; {wait}"
            )
    fit = workers_now(cluster, need)
    if cluster.nodes and not found and fit < world_size:
        found.append(
            f"{fit} of {world_size} workers, with {in_words(need)} each, fit on the nodes that are "
            f"there; {wait}"
        )
    return found
