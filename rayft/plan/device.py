"""What a worker's device computes in, and how many rows it holds at once."""

from collections.abc import Sequence
from typing import Literal

from rayft.errors import ClusterError, Problem, SpecError
from rayft.plan.facts import ClusterFacts, DeviceName, Speeds
from rayft.plan.memory import MemoryEstimate
from rayft.plan.resources import ResourcePlan
from rayft.spec.run import RunSpec

_USABLE_SHARE = 0.6
"""Share of a device's memory that `rows_per_device: auto` fills, by estimate."""
_MOST_AUTO_ROWS = 1024
_UNKNOWN_GPU = (
    "no GPU has come yet that could be asked, and all since Ampere (2020) have instructions for "
    "it; for older ones, such as V100 and T4, set precision: fp32"
)


def plan_precision(
    spec: RunSpec, cluster: ClusterFacts, speeds: Speeds, *, device: DeviceName
) -> tuple[Literal["fp32", "bf16"], str]:
    """Return the arithmetic of forward and backward on the workers' device, and why."""
    if spec.precision != "auto":
        return spec.precision, "asked for"
    if device == "cuda" and cluster.gpu_bf16 is None:
        return "bf16", _UNKNOWN_GPU
    if not {"cpu": cluster.cpu_bf16, "cuda": cluster.gpu_bf16, "mps": False}[device]:
        return "fp32", "the device has no instructions for bf16"
    if device == "cuda" or speeds.bf16_rows_per_s is None:
        return "bf16", "the device has instructions for it"
    fp32, bf16 = speeds.fp32_rows_per_s, speeds.bf16_rows_per_s
    measured = f"a probe of the last phase trained {bf16:,.0f} rows/s in bf16, {fp32:,.0f} in fp32"
    return ("bf16" if bf16 > fp32 else "fp32"), measured


def rows_per_device(
    spec: RunSpec, memories: Sequence[MemoryEstimate], *, budget: int, world_size: int
) -> tuple[int, str]:
    """Return how many rows a device holds at once, and why.

    Args:
        spec: the run.
        memories: what each phase needs.
        budget: bytes of a worker's device; 0 where they are not known.
        world_size: workers.

    Raises:
        SpecError: not one row fits.
    """
    if spec.rows_per_device != "auto":
        return spec.rows_per_device, "asked for"
    if budget <= 0:
        return spec.global_batch_size, "the device's memory is not known"
    usable = int(budget * _USABLE_SHARE)
    rows = min(memory.rows_within(usable) for memory in memories)
    if rows < 1:
        need = max(memory.total(1) for memory in memories)
        raise SpecError(
            Problem(
                "model.backbone",
                f"one row needs about {need / 2**30:.1f} GiB; {usable / 2**30:.1f} GiB of a "
                f"worker's {budget / 2**30:.1f} GiB are taken at most",
                "train fewer groups, use a smaller image_size or backbone, or set rows_per_device",
            )
        )
    rows = min(rows, _MOST_AUTO_ROWS)
    if rows >= spec.global_batch_size // world_size:
        return rows, "all of its share fits"
    return rows, f"about {rows} rows fit into {usable / 2**30:.1f} GiB"


def check_gpus(cluster: ClusterFacts, resources: ResourcePlan) -> None:
    """Refuse GPUs that are there for Ray and not for torch.

    Raises:
        ClusterError: workers could be placed on them.
    """
    if resources.device == "cuda" and cluster.unusable_gpus:
        what = "Ray counts GPUs there that torch cannot compute on"
        fix = (
            "update the NVIDIA driver there, or install torch built with CUDA; "
            "scaling.use_gpu=false trains on CPUs"
        )
        raise ClusterError(*(Problem(node, what, fix) for node in cluster.unusable_gpus))


def check_augmentation(spec: RunSpec, resources: ResourcePlan) -> None:
    """Refuse to augment on a device that cannot do it in the same roundings.

    Raises:
        SpecError: it is so.
    """
    if spec.augment_on == "device" and resources.device == "mps":
        raise SpecError(
            Problem(
                "augment_on",
                "device needs numbers of 64 bits, and the workers compute on mps, which has none",
                "use augment_on: host",
            )
        )


def check_batch_norm(spec: RunSpec, resources: ResourcePlan) -> None:
    """Refuse statistics that the device cannot share, or that would undo exactness.

    Raises:
        SpecError: it is so.
    """
    if spec.batch_norm == "sync" and resources.device != "cuda":
        raise SpecError(
            Problem(
                "batch_norm",
                f"sync runs on GPUs only; the workers compute on {resources.device}",
                "use pretrained (recommended) or local",
            )
        )
    if spec.batch_norm != "pretrained" and spec.reduction.kind == "exact":
        raise SpecError(
            Problem(
                "batch_norm",
                f"{spec.batch_norm} makes the result depend on how rows fall to workers, which "
                "reduction: exact excludes",
                "use batch_norm: pretrained, or reduction: mean",
            )
        )
