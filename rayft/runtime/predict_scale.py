"""How many workers predict, on what, and how many rows they take at once."""

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from rayft.errors import ClusterError, Problem
from rayft.plan.facts import NodeFacts
from rayft.plan.placement import in_words, workers_on
from rayft.runtime.facts import available_gpus

DeviceName = Literal["cpu", "cuda", "mps"]

_MOST_LANES = 16
_USUAL_CPUS = 8
"""CPUs for each worker where there are no GPUs: beyond it Python's global lock is felt."""
_MOST_CPUS_HERE = 16
"""From more CPUs on several processes are better than one."""
_USUAL_ROWS = {"cpu": 32, "mps": 64, "cuda": 256}
"""Rows of a batch of images of 224 pixels."""
_MOST_ROWS = {"cpu": 128, "mps": 256, "cuda": 1024}
_USUAL_SIZE = 224
_FEWEST_PARTS = 256
"""Parts that an input is cut into, as long as they are neither small nor huge."""
_PART_ROWS = (256, 16_384)
_PART_BYTES = 64 * 2**20
"""Most bytes of probabilities in a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Who predicts."""

    workers: int
    """Actors; 0 is this process."""
    device: DeviceName
    lanes: int
    """CPUs of each worker, and batches that it has in work at the same time."""


def scale(
    nodes: Sequence[NodeFacts],
    *,
    workers: int | Literal["auto"],
    device: DeviceName,
    is_cluster: bool,
) -> Scale:
    """Decide who predicts.

    Args:
        nodes: the machines there are.
        workers: what the user asks for.
        device: what the model computes on.
        is_cluster: the nodes are those of a Ray cluster that runs already.

    Raises:
        ClusterError: the workers do not fit.
    """
    if workers == "auto":
        workers = _auto_workers(nodes, device, is_cluster=is_cluster)
    if not workers:
        return Scale(workers=0, device=device, lanes=max(1, cpus_here()))
    lanes = next((n for n in range(_MOST_LANES, 0, -1) if _hold(nodes, n, device) >= workers), None)
    if lanes is None:
        need = in_words(_need(1, device))
        fit = _hold(nodes, 1, device)
        what = f"{workers} workers need {need} each, and {fit} fit on the machines there are"
        raise ClusterError(
            Problem("--workers", what, f"ask for {fit or 'none: 0'}, or leave it out")
        )
    return Scale(workers=workers, device=device, lanes=lanes)


def _auto_workers(nodes: Sequence[NodeFacts], device: DeviceName, *, is_cluster: bool) -> int:
    if device == "mps":
        return 0
    if device == "cuda":
        most = _hold(nodes, 1, device)
        return most if is_cluster or most > 1 else 0
    if is_cluster:
        return sum(-(-_cpus(node) // _USUAL_CPUS) for node in nodes)
    cpus = sum(map(_cpus, nodes))
    return cpus // _USUAL_CPUS if cpus > _MOST_CPUS_HERE else 0


def _cpus(node: NodeFacts) -> int:
    return int(node.resources.get("CPU", 0))


def _hold(nodes: Sequence[NodeFacts], lanes: int, device: DeviceName) -> int:
    return sum(workers_on(node, _need(lanes, device)) for node in nodes)


def _need(lanes: int, device: DeviceName) -> dict[str, float]:
    return {"CPU": float(lanes), **({"GPU": 1.0} if device == "cuda" else {})}


def this_node() -> NodeFacts:
    """Return this machine as a node."""
    resources = {"CPU": float(cpus_here()), "GPU": float(available_gpus())}
    return NodeFacts(name=platform.node(), resources=resources, memory_bytes=0)


def cpus_here() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(asked: DeviceName | Literal["auto"], nodes: Sequence[NodeFacts]) -> DeviceName:
    """Return what the model computes on: an accelerator where there is one.

    Raises:
        ClusterError: the device that was asked for is not there.
    """
    has_cuda = any(node.resources.get("GPU", 0) >= 1 for node in nodes)
    has_mps = torch.backends.mps.is_available()
    there = {"cpu": True, "cuda": has_cuda, "mps": has_mps}
    if asked == "auto":
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    if not there[asked]:
        names = ", ".join(name for name, is_there in there.items() if is_there)
        what = f"there is no {asked} device"
        raise ClusterError(Problem("--device", what, f"choose one of: {names}"))
    return asked


def auto_batch_size(num_rows: int, *, image_size: int, device: DeviceName) -> int:
    """Return the rows of a batch: a power of two that follows from the input and the model."""
    rows = _USUAL_ROWS[device] * (_USUAL_SIZE / image_size) ** 2
    most = min(_MOST_ROWS[device], 1 << max(0, int(math.log2(max(1.0, rows)))))
    return min(most, 1 << (num_rows - 1).bit_length())


def rows_per_part(num_rows: int, *, num_classes: int, batch_size: int) -> int:
    """Return the rows of a part, a multiple of the batch."""
    fewest, most = _PART_ROWS
    rows = min(max(-(-num_rows // _FEWEST_PARTS), fewest), most)
    rows = max(1, min(rows, _PART_BYTES // (4 * num_classes)))
    return -(-rows // batch_size) * batch_size
