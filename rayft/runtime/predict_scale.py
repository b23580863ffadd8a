"""How many workers predict, on what, and how many rows they take at once."""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from rayft.errors import ClusterError, Problem
from rayft.plan.facts import DeviceName, NodeFacts
from rayft.plan.placement import in_words, workers_held
from rayft.runtime.available import available_cpus, available_gpus

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
class Machines:
    """The machines there are, and those that may come."""

    nodes: Sequence[NodeFacts]
    """Nodes that are there, and kinds of nodes that an autoscaler can add."""
    most_new: int | None = 0
    """Nodes that it can add at most; None where the cluster grows and does not say how far."""
    is_cluster: bool = False
    """Whether they are those of a Ray cluster that this process is connected to."""

    @property
    def there(self) -> list[NodeFacts]:
        """Return the nodes that are there."""
        return [node for node in self.nodes if node.present]

    def hold(self, need: Mapping[str, float]) -> int:
        """Return how many workers fit on them, as far as they are known."""
        return workers_held(self.nodes, need, most_new=self.most_new or 0)

    def may_hold(self, need: Mapping[str, float]) -> bool:
        """Return whether a worker fits on one of them, or may fit on one that nobody knows."""
        return self.most_new is None or self.hold(need) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Who predicts."""

    workers: int
    """Actors; 0 is this process."""
    device: DeviceName
    lanes: int
    """CPUs of each worker, and batches that it has in work at the same time."""
    must_wait: bool = False
    """No node is there yet that holds a worker."""


def scale(machines: Machines, *, workers: int | Literal["auto"], device: DeviceName) -> Scale:
    """Decide who predicts.

    Args:
        machines: the machines.
        workers: what the user asks for.
        device: what the model computes on.

    Raises:
        ClusterError: the workers do not fit.
    """
    if workers == "auto":
        workers = _auto_workers(machines, device)
    if not workers:
        return Scale(workers=0, device=device, lanes=max(1, available_cpus()))
    lanes = _lanes(machines, workers, device)
    if lanes is None:
        need = in_words(worker_need(1, device))
        fit = machines.hold(worker_need(1, device))
        there = "there are, and those that can be added" if machines.most_new else "there are"
        what = f"{workers} workers need {need} each, and {fit} fit on the machines {there}"
        raise ClusterError(
            Problem("--workers", what, f"ask for {fit or 'none: 0'}, or leave it out")
        )
    must_wait = not workers_held(machines.there, worker_need(lanes, device), most_new=0)
    return Scale(workers=workers, device=device, lanes=lanes, must_wait=must_wait)


def _lanes(machines: Machines, workers: int, device: DeviceName) -> int | None:
    """Return the most CPUs with which all workers fit; None where they do not fit with one.

    They fit on the nodes that are there, or else on those and all that can be added.
    """
    there = machines.there
    if lanes := _lanes_on(there, workers, device, most_new=0):
        return lanes
    if machines.most_new is None:
        # Nodes that come are taken to be like those that are there, or to have a CPU.
        held = workers_held(there, worker_need(1, device), most_new=0)
        return _lanes_on(there, held, device, most_new=0) if held else 1
    return _lanes_on(machines.nodes, workers, device, most_new=machines.most_new)


def _lanes_on(
    nodes: Sequence[NodeFacts], workers: int, device: DeviceName, *, most_new: int
) -> int | None:
    lanes = range(_MOST_LANES, 0, -1)
    fits = (
        n
        for n in lanes
        if workers_held(nodes, worker_need(n, device), most_new=most_new) >= workers
    )
    return next(fits, None)


def _auto_workers(machines: Machines, device: DeviceName) -> int:
    """Return as many as there is room for now, or one for which a node has to be added."""
    if device == "mps":
        return 0
    there = machines.there
    if device == "cuda":
        most = workers_held(there, worker_need(1, device), most_new=0)
        if machines.is_cluster:
            return max(1, most)
        return most if most > 1 else 0
    if machines.is_cluster:
        most = sum(-(-_cpus(node) // _USUAL_CPUS) for node in there)
        return most or int(machines.may_hold(worker_need(1, device)))
    cpus = sum(map(_cpus, there))
    return cpus // _USUAL_CPUS if cpus > _MOST_CPUS_HERE else 0


def _cpus(node: NodeFacts) -> int:
    return int(node.resources.get("CPU", 0))


def worker_need(lanes: int, device: DeviceName) -> dict[str, float]:
    """Return what a worker reserves."""
    return {"CPU": float(lanes), **({"GPU": 1.0} if device == "cuda" else {})}


def this_node() -> NodeFacts:
    """Return this machine as a node."""
    resources = {"CPU": float(available_cpus()), "GPU": float(available_gpus())}
    return NodeFacts(name=platform.node(), resources=resources, memory_bytes=0)


def choose_device(asked: DeviceName | Literal["auto"], machines: Machines) -> DeviceName:
    """Return what the model computes on: an accelerator where there is one, or can be one.

    Raises:
        ClusterError: the device that was asked for is not there.
    """
    gpu_worker = worker_need(1, "cuda")
    has_cuda = machines.hold(gpu_worker) > 0
    has_mps = torch.backends.mps.is_available()
    there = {"cpu": True, "cuda": machines.may_hold(gpu_worker), "mps": has_mps}
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
