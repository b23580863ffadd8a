"""What a machine says of its GPUs, and what a plan makes of it."""

from dataclasses import replace

import pytest
import torch

from rayft.plan.facts import NodeFacts
from rayft.plan.resources import plan_resources
from rayft.runtime.each_node import Node
from rayft.runtime.facts import gpus_have_bf16, nodes_without_cuda
from rayft.runtime.machine import Machine, this_machine
from tests.unit.plan.conftest import cluster, spec

H100 = "NVIDIA H100 80GB HBM3"


def test_a_machine_names_its_gpus_as_torch_does() -> None:
    found = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}

    assert this_machine(with_gpus=True).gpu_names == tuple(sorted(found))


@pytest.mark.parametrize(("device", "named"), [("cuda", (H100,)), ("cpu", ())])
def test_a_plan_knows_the_gpus_that_it_computes_on(device: str, named: tuple[str, ...]) -> None:
    there = replace(cluster(gpus=1.0, max_gpus=1.0, device="cuda"), gpu_names=(H100,))

    assert plan_resources(spec(device=device), there).gpu_names == named


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        ([""], [], None),
        (["L4"], [], True),
        (["L4", "T4"], [], False),
        ([""], [True], True),
        ([""], [True, False], False),
        (["T4"], [True], False),
    ],
)
def test_gpus_are_known_to_have_bf16_by_asking_or_by_name(
    names: list[str], asked: list[bool], expected: bool | None
) -> None:
    nodes = [
        NodeFacts(name="", resources={"GPU": 1.0, **named(name)}, memory_bytes=0) for name in names
    ]
    machines = [
        Machine(memory_bytes=1, cpu_bf16=True, gpu_memory_bytes=1, gpu_bf16=gpu_bf16)
        for gpu_bf16 in asked
    ]

    assert gpus_have_bf16(nodes, machines) is expected


def test_a_machine_without_gpus_says_nothing_of_theirs() -> None:
    machine = Machine(memory_bytes=1, cpu_bf16=True)

    assert gpus_have_bf16([], [machine]) is None


@pytest.mark.parametrize(
    ("gpus", "has_cuda", "named"),
    [(1, False, ["gpu"]), (1, None, []), (1, True, []), (0, False, [])],
)
def test_nodes_are_named_where_ray_counts_gpus_that_torch_cannot_compute_on(
    gpus: int, has_cuda: bool | None, named: list[str]
) -> None:
    node = Node("id", "gpu", "10.0.0.1", {"CPU": 1.0, "GPU": gpus})
    machine = Machine(memory_bytes=1, cpu_bf16=True, has_cuda=has_cuda)

    found = nodes_without_cuda([node], {"id": machine})

    assert found == tuple(f"node {name} (10.0.0.1, id)" for name in named)
    assert nodes_without_cuda([node], {}) == ()


def named(name: str) -> dict[str, float]:
    return {f"accelerator_type:{name}": 1.0} if name else {}
