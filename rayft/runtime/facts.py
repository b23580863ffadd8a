"""Facts about the machine, or about the cluster that Ray is connected to."""

import json
import os
import platform
from pathlib import Path
from typing import Literal

import psutil
import ray
import torch

from rayft.plan.facts import ClusterFacts

_SLOW_BF16 = ("V100", "P100", "T4", "P4", "K80")


def cluster_facts(storage_path: Path) -> ClusterFacts:
    """Return what the connected Ray cluster has, or this machine where none is connected."""
    disk = _disk_free(storage_path)
    if ray.is_initialized():
        return _ray_facts(disk)
    gpus = torch.cuda.device_count()
    cpus = float(available_cpus())
    return ClusterFacts(
        cpus=cpus,
        gpus=float(gpus),
        memory_bytes=_memory_bytes(),
        gpu_memory_bytes=_gpu_memory(),
        max_cpus=cpus,
        max_gpus=float(gpus),
        bf16=_local_bf16(),
        device=_local_device(),
        disk_free_bytes=disk,
    )


def available_cpus() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ray_facts(disk: int) -> ClusterFacts:
    present = ray.cluster_resources()
    reach = _reach()
    gpus = float(present.get("GPU", 0))
    max_gpus = None if reach is None else max(gpus, reach.get("GPU", 0.0))
    slow = any(f"accelerator_type:{name}" in present for name in _SLOW_BF16)
    has_gpu = gpus > 0 or bool(max_gpus)
    return ClusterFacts(
        cpus=float(present.get("CPU", 0)),
        gpus=gpus,
        memory_bytes=_smallest_node_bytes(),
        gpu_memory_bytes=_gpu_memory(),
        max_cpus=None if reach is None else max(float(present.get("CPU", 0)), reach["CPU"]),
        max_gpus=max_gpus,
        bf16=not slow if has_gpu else _local_bf16(),
        device="cuda" if has_gpu else _local_device(),
        disk_free_bytes=disk,
    )


def _smallest_node_bytes() -> int:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1 and nodes[0]["NodeManagerHostname"] == platform.node():
        # What Ray counts as memory is what was free when it started: it would change the plan.
        return _memory_bytes()
    found = [int(node["Resources"].get("memory", 0)) for node in nodes]
    return min((number for number in found if number), default=0)


def _reach() -> dict[str, float] | None:
    """Return what the cluster can grow to; None where it grows and does not say how far."""
    # No public call tells the autoscaler's limits (Ray 2.60).
    limits = ray._private.state.state.get_max_resources_from_cluster_config()
    if limits is not None:
        return {name: float(value) for name, value in limits.items()} | {
            "CPU": float(limits.get("CPU", 0))
        }
    if _has_autoscaler():
        return None
    present = ray.cluster_resources()
    return {"CPU": float(present.get("CPU", 0)), "GPU": float(present.get("GPU", 0))}


def _has_autoscaler() -> bool:
    from ray.experimental.internal_kv import _internal_kv_get

    # The monitor writes its status here, on clusters without an autoscaler too: there it takes
    # each node for a type of its own, named after it.
    report = json.loads(_internal_kv_get(b"__autoscaling_status") or b"{}").get("autoscaler_report")
    if not report:
        return False
    nodes = {f"node_{node['NodeID']}" for node in ray.nodes()}
    return not nodes.issuperset(report["active_nodes"] or {})


def _disk_free(path: Path) -> int:
    nearest = path
    while not nearest.exists():
        nearest = nearest.parent
    return int(psutil.disk_usage(str(nearest)).free)


def _memory_bytes() -> int:
    total = int(psutil.virtual_memory().total)
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file():
        text = limit.read_text().strip()
        if text.isdigit():
            total = min(total, int(text))
    return total


def _gpu_memory() -> int:
    if not torch.cuda.is_available():
        return 0
    return min(
        torch.cuda.get_device_properties(index).total_memory
        for index in range(torch.cuda.device_count())
    )


def _local_device() -> Literal["cpu", "cuda", "mps"]:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _local_bf16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    if torch.backends.mps.is_available():
        return False
    # Without these instructions a CPU converts to fp32 and back, which is slower than fp32.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
