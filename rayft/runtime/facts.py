"""Facts about the machine, or about the cluster that Ray is connected to."""

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import psutil
import ray
import torch

from rayft.plan.facts import ClusterFacts, DeviceName, NodeFacts
from rayft.runtime.available import available_cpus, available_gpus
from rayft.runtime.each_node import NoAnswer, Node, alive_nodes, ask_each, own_node_id
from rayft.runtime.growth import Growth, growth_of
from rayft.runtime.machine import Machine, memory_bytes, this_machine
from rayft.storage.location import Location
from rayft.storage.roots import store_root_of
from rayft.store.activation_use import FOLDER

_AMPERE = 8
"""Compute capability from which NVIDIA's GPUs have instructions for bf16."""
_SLOW_BF16 = ("V100", "P100", "T4", "P4", "K80")
_ACCELERATOR = "accelerator_type:"
_WAIT_S = 60.0
_asked: dict[str, Machine] = {}
"""Machines that answered, by the id of their node: what they are does not change."""


def cluster_facts(storage: Location) -> ClusterFacts:
    """Return what the connected Ray cluster has, or this machine where none is connected.

    Args:
        storage: the folder of all runs.
    """
    if ray.is_initialized():
        return replace(_ray_facts(_disk_free(storage)), kept_bytes=_kept_bytes(storage))
    return own_facts(storage)


def own_facts(storage: Location) -> ClusterFacts:
    """Return what this machine has, whatever this process is connected to.

    Args:
        storage: the folder of all runs.
    """
    gpus = float(available_gpus())
    cpus = float(available_cpus())
    machine = _own_machine()
    memory = machine.memory_bytes
    here = NodeFacts(
        name=platform.node(),
        resources={"CPU": cpus, "GPU": gpus, "memory": float(memory)},
        memory_bytes=memory,
    )
    return ClusterFacts(
        cpus=cpus,
        gpus=gpus,
        memory_bytes=memory,
        gpu_memory_bytes=machine.gpu_memory_bytes,
        gpu_names=machine.gpu_names,
        max_cpus=cpus,
        max_gpus=gpus,
        cpu_bf16=machine.cpu_bf16,
        gpu_bf16=gpus_have_bf16([here], [machine]),
        device=_own_device(),
        disk_free_bytes=_disk_free(storage),
        kept_bytes=_kept_bytes(storage),
        nodes=(here,),
    )


def _ray_facts(disk: int) -> ClusterFacts:
    nodes = alive_nodes()
    machines = _machines([node for node in nodes if node.holds_workers])
    growth = growth_of(nodes)
    there = [_node_facts(node, machines.get(node.id)) for node in nodes]
    all_nodes = (*there, *(growth.kinds if growth else ()))
    gpus = sum(node.resources.get("GPU", 0.0) for node in nodes)
    cpus = sum(node.resources.get("CPU", 0.0) for node in nodes)
    max_gpus = _reach("GPU", gpus, growth)
    has_gpu = gpus > 0 or bool(max_gpus)
    memories = [machine.memory_bytes for machine in machines.values()]
    gpu_memories = [m.gpu_memory_bytes for m in machines.values() if m.gpu_memory_bytes]
    return ClusterFacts(
        cpus=cpus,
        gpus=gpus,
        memory_bytes=min(memories, default=0),
        gpu_memory_bytes=min(gpu_memories, default=0),
        gpu_names=kinds_of_gpus(all_nodes, machines.values()),
        max_cpus=_reach("CPU", cpus, growth),
        max_gpus=max_gpus,
        cpu_bf16=_own_cpu_bf16() and all(machine.cpu_bf16 for machine in machines.values()),
        gpu_bf16=gpus_have_bf16(all_nodes, machines.values()),
        unusable_gpus=nodes_without_cuda(nodes, machines),
        device="cuda" if has_gpu else _device_without_cuda(nodes),
        disk_free_bytes=disk,
        nodes=all_nodes,
        max_new_nodes=growth.most if growth else None,
    )


def _node_facts(node: Node, machine: Machine | None) -> NodeFacts:
    return NodeFacts(
        name=node.name,
        resources=node.resources,
        memory_bytes=machine.memory_bytes if machine else 0,
    )


def _reach(resource: str, now: float, growth: Growth | None) -> float | None:
    """Return how much of a resource the cluster can grow to; None where it does not say."""
    if growth is None:
        return None
    left, total = growth.most, now
    for kind in sorted(growth.kinds, key=lambda kind: -kind.resources.get(resource, 0.0)):
        taken = min(left, kind.count)
        total += taken * kind.resources.get(resource, 0.0)
        left -= taken
    return total


def _machines(nodes: Sequence[Node]) -> dict[str, Machine]:
    """Return what is behind each node, as far as they answer.

    GPUs are asked on one node of each kind only: it takes torch there seconds to look.
    """
    own, wanted = own_node_id(), [node.id for node in nodes]
    nodes = [node for node in nodes if node.id not in _asked]
    kinds = {_gpu_kind(node): node.id for node in nodes if node.resources.get("GPU", 0) > 0}
    asks_gpus = set(kinds.values()) - ({own} if available_gpus() else set())
    plain = [node for node in nodes if node.id not in asks_gpus and node.id != own]
    with_gpus = [node for node in nodes if node.id in asks_gpus]
    answers = {
        **ask_each(plain, lambda: this_machine(with_gpus=False), wait_s=_WAIT_S),
        **ask_each(with_gpus, lambda: this_machine(with_gpus=True), wait_s=_WAIT_S),
    }
    _asked.update((name, one) for name, one in answers.items() if not isinstance(one, NoAnswer))
    if own not in _asked:
        _asked[own] = _own_machine()
    return {node_id: _asked[node_id] for node_id in wanted if node_id in _asked}


def _gpu_kind(node: Node) -> str:
    return " ".join(sorted(name for name in node.resources if name.startswith(_ACCELERATOR)))


def _own_machine() -> Machine:
    gpus = [torch.cuda.get_device_properties(gpu) for gpu in range(available_gpus())]
    return Machine(
        memory_bytes=memory_bytes(),
        cpu_bf16=_own_cpu_bf16(),
        # Where none is seen, they may be hidden from this process alone.
        has_cuda=bool(gpus) or None,
        gpu_memory_bytes=min((gpu.total_memory for gpu in gpus), default=0),
        gpu_bf16=bool(gpus) and all(gpu.major >= _AMPERE for gpu in gpus),
        gpu_names=tuple(sorted({gpu.name for gpu in gpus})),
    )


def nodes_without_cuda(nodes: Iterable[Node], machines: Mapping[str, Machine]) -> tuple[str, ...]:
    """Return the names of the nodes with GPUs that torch there has said it cannot compute on."""
    return tuple(
        node.name
        for node in nodes
        if node.resources.get("GPU", 0.0) > 0
        and node.id in machines
        and machines[node.id].has_cuda is False
    )


def gpus_have_bf16(nodes: Iterable[NodeFacts], machines: Iterable[Machine]) -> bool | None:
    """Return whether the GPUs have bf16, from themselves and from their names.

    Returns:
        None where no GPU is up that could say so, and none that can come has a name.
    """
    asked = [machine.gpu_bf16 for machine in machines if machine.gpu_memory_bytes]
    named = [
        name.removeprefix(_ACCELERATOR) not in _SLOW_BF16
        for node in nodes
        for name in node.resources
        if name.startswith(_ACCELERATOR)
    ]
    return all(known) if (known := asked + named) else None


def _kept_bytes(storage: Location) -> int:
    """Return the bytes that are kept of frozen layers; on a disk only, where they are counted."""
    kept = store_root_of(storage) / FOLDER
    return sum(file.size for file in kept.files()) if storage.is_local else 0


def _disk_free(storage: Location) -> int:
    if not storage.is_local:
        return sys.maxsize
    nearest = storage.path
    while not nearest.exists():
        nearest = nearest.parent
    return int(psutil.disk_usage(str(nearest)).free)


def kinds_of_gpus(nodes: Iterable[NodeFacts], machines: Iterable[Machine]) -> tuple[str, ...]:
    """Return the kinds of GPUs as torch names them, or as Ray does until one is up."""
    asked = {name for machine in machines for name in machine.gpu_names}
    kinds = {
        name.removeprefix(_ACCELERATOR)
        for node in nodes
        for name in node.resources
        if name.startswith(_ACCELERATOR)
    }
    return tuple(sorted(asked or kinds))


def _own_device() -> DeviceName:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _device_without_cuda(nodes: Sequence[Node]) -> Literal["cpu", "mps"]:
    alone = [node.id for node in nodes] == [own_node_id()]
    return "mps" if alone and torch.backends.mps.is_available() else "cpu"


def _own_cpu_bf16() -> bool:
    # Without these instructions a CPU converts to fp32 and back, which is slower than fp32.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
