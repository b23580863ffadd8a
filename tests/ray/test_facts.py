"""What a connected cluster is said to have and to reach; tests/clusters has those that grow."""

from pathlib import Path

import psutil
import pytest

from rayft.storage.location import Location

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_a_cluster_that_cannot_grow_reaches_what_it_has(tmp_path: Path) -> None:
    from rayft.runtime.facts import cluster_facts

    facts = cluster_facts(Location(str(tmp_path)))

    assert (facts.cpus, facts.max_cpus, facts.max_gpus) == (4, 4, 0)
    assert facts.max_new_nodes == 0
    assert [node.resources["CPU"] for node in facts.nodes] == [4]


def test_the_memory_of_the_only_node_is_that_of_the_machine(tmp_path: Path) -> None:
    from rayft.runtime.facts import cluster_facts

    facts = cluster_facts(Location(str(tmp_path)))

    # What Ray counts as memory is what was free when it started: it would change the plan.
    assert 0 < facts.memory_bytes <= psutil.virtual_memory().total
    assert facts.nodes[0].memory_bytes == facts.memory_bytes


def test_a_machine_is_asked_for_what_torch_says_of_its_cpus() -> None:
    import torch

    from rayft.runtime.machine import this_machine

    machine = this_machine(with_gpus=False)

    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert machine.cpu_bf16 == has_bf16


def test_kinds_of_gpus_go_by_rays_names_until_one_is_up() -> None:
    from rayft.plan.facts import NodeFacts
    from rayft.runtime.facts import kinds_of_gpus
    from rayft.runtime.machine import Machine

    node = NodeFacts(name="gpu", resources={"GPU": 1, "accelerator_type:L4": 1}, memory_bytes=0)
    machine = Machine(memory_bytes=1, cpu_bf16=False, gpu_names=("NVIDIA L4",))

    assert kinds_of_gpus([node], []) == ("L4",)
    assert kinds_of_gpus([node], [machine]) == ("NVIDIA L4",)
