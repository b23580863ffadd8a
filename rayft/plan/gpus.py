"""Whether workers compute on GPUs, what could not work there, and which GPUs stay idle."""

from rayft.errors import ClusterError, Problem, SpecError
from rayft.plan.facts import ClusterFacts, DeviceName
from rayft.spec.run import RunSpec


def choose_device(spec: RunSpec, cluster: ClusterFacts) -> DeviceName:
    """Return what workers compute on: GPUs, where they are asked for or there is one for each.

    Raises:
        SpecError: settings that contradict each other.
    """
    wanted, use_gpu = spec.device, spec.scaling.use_gpu
    if wanted in ("cpu", "mps") and use_gpu is True:
        raise SpecError(
            Problem(
                "scaling.use_gpu",
                f"true reserves GPUs while device: {wanted} leaves them idle",
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


def check_reserved_gpus(spec: RunSpec, device: DeviceName) -> None:
    """Refuse parts of GPUs that workers cannot compute on, and GPUs that they would leave idle.

    Raises:
        SpecError: it is so.
    """
    scaling = spec.scaling
    gpus = scaling.resources_per_worker.get("GPU")
    # The calling process reserves nothing.
    if gpus is None or not scaling.num_workers:
        return
    if gpus > 1:
        what = f"a worker computes on one GPU, and {gpus:g} would leave the rest idle"
        fix = "set it to 1"
    elif gpus < 1 and scaling.num_workers > 1:
        what = (
            f"{gpus:g} is a part of a GPU; {scaling.num_workers} workers are connected by NCCL, "
            "which needs a whole one for each"
        )
        fix = "set it to 1, or scaling.num_workers to 1"
    elif device != "cuda":
        what = f"{gpus:g} reserves GPUs, and the workers compute on {device}"
        fix = "remove it, or set scaling.use_gpu to true and device to auto"
    else:
        return
    raise SpecError(Problem("scaling.resources_per_worker.GPU", what, fix))


def check_own_gpu(spec: RunSpec, cluster: ClusterFacts, device: DeviceName) -> None:
    """Refuse to compute on a GPU in the calling process where there is none.

    Raises:
        ClusterError: it is so.
    """
    # Of a sweep's trial in one process the machine may be still to come.
    if spec.scaling.num_workers or device != "cuda" or cluster.max_gpus != 0:
        return
    raise ClusterError(
        Problem(
            "device" if spec.device == "cuda" else "scaling.use_gpu",
            "a GPU is asked for, and the calling process, which computes where scaling.num_workers "
            "is 0, has none",
            "set device and scaling.use_gpu to auto, or run it on a machine with a GPU",
        )
    )


def idle_gpus(spec: RunSpec, cluster: ClusterFacts, device: DeviceName) -> list[str]:
    """Say where `auto` computes on CPUs, and there are GPUs, or may be."""
    number = spec.scaling.num_workers
    is_open = spec.device == "auto" and spec.scaling.use_gpu == "auto"
    if device != "cpu" or not is_open or not number or cluster.max_gpus == 0:
        return []
    if cluster.max_gpus is None:
        found = f"has {_gpus(cluster.gpus)}"
        more = " and does not say what it can reach; with scaling.use_gpu=true they wait for GPUs"
    else:
        most = int(cluster.max_gpus)
        found = f"reaches {_gpus(most)}"
        more = f"; at most {_workers(most)} would compute on GPUs (scaling.num_workers)"
    return [f"the workers compute on cpu: the cluster {found} for {_workers(number)}{more}"]


def _gpus(number: float) -> str:
    return "1 GPU" if number == 1 else f"{number:g} GPUs"


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"
