"""Workers are placed whole on nodes; what fits on none is refused before anything starts."""

from typing import Any

import pytest

from rayft.errors import ClusterError
from rayft.plan.facts import NodeFacts
from rayft.plan.placement import most_workers, worker_memory, workers_on
from rayft.plan.resources import plan_resources
from tests.unit.plan.conftest import cluster, spec

GIB = 2**30


def node(memory_gib: int = 16, *, count: int = 1, present: bool = True, **resources: float) -> Any:
    return NodeFacts(
        name=f"node-{memory_gib}",
        resources=resources,
        memory_bytes=memory_gib * GIB,
        count=count,
        present=present,
    )


def of(*nodes: NodeFacts, **changes: Any) -> Any:
    """Return the facts of a cluster with these nodes."""
    there = [one for one in nodes if one.present]
    totals = {
        "cpus": sum(one.resources.get("CPU", 0) for one in there),
        "gpus": sum(one.resources.get("GPU", 0) for one in there),
        "max_cpus": sum(one.resources.get("CPU", 0) * one.count for one in nodes),
        "max_gpus": sum(one.resources.get("GPU", 0) * one.count for one in nodes),
        "memory_bytes": min(one.memory_bytes for one in nodes),
    }
    return cluster(nodes=nodes, **(totals | changes))


def planned(facts: Any, num_workers: int, **changes: Any) -> Any:
    scaling = {"num_workers": num_workers, **changes.pop("scaling", {})}
    return plan_resources(spec(scaling=scaling, global_batch_size=16, **changes), facts)


@pytest.mark.parametrize(
    ("resources", "need", "expected"),
    [
        ({"CPU": 8.0}, {"CPU": 3.0, "GPU": 0.0}, 2),
        ({"CPU": 0.3}, {"CPU": 0.1}, 3),
        ({"CPU": 8.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}, 1),
        ({"CPU": 8.0}, {"CPU": 1.0, "fast": 1.0}, 0),
        ({}, {"CPU": 1.0}, 0),
    ],
)
def test_workers_are_counted_by_the_scarcest_resource(
    resources: dict[str, float], need: dict[str, float], expected: int
) -> None:
    assert workers_on(node(**resources), need) == expected


def test_a_worker_that_fits_on_no_node_is_refused_with_the_largest_nodes() -> None:
    facts = of(node(CPU=2.0), node(32, CPU=3.0))

    with pytest.raises(ClusterError) as caught:
        planned(facts, 1, scaling={"resources_per_worker": {"CPU": 4}})

    (problem,) = caught.value.problems
    assert problem.where == "scaling.resources_per_worker"
    assert problem.what == (
        "a worker needs 4 CPU on one node; node-32 has 3 CPU, node-16 has 2 CPU"
    )


def test_more_workers_than_nodes_hold_are_refused_though_the_totals_are_enough() -> None:
    facts = of(node(CPU=3.0), node(CPU=3.0))

    with pytest.raises(ClusterError, match="the cluster's nodes hold 2 of them"):
        planned(facts, 3, scaling={"resources_per_worker": {"CPU": 2}})


def test_a_resource_that_no_node_has_is_refused() -> None:
    with pytest.raises(ClusterError, match="needs 1 CPU, 1 fast on one node"):
        planned(of(node(CPU=8.0)), 1, scaling={"resources_per_worker": {"CPU": 1, "fast": 1}})


def test_the_share_of_cpus_is_as_large_as_lets_every_worker_find_a_node() -> None:
    facts = of(node(CPU=4.0), node(CPU=4.0), node(CPU=4.0))

    # 6 CPUs each would be an equal share of 12, and fit nowhere.
    assert planned(facts, 2).cpus_per_worker == 4
    assert planned(facts, 4).cpus_per_worker == 2
    assert planned(facts, 3).cpus_per_worker == 4


def test_nodes_that_can_come_are_counted_up_to_the_limit_of_all_kinds_together() -> None:
    small = node(CPU=2.0, count=10, present=False)
    large = node(CPU=8.0, count=2, present=False)
    need = {"CPU": 2.0}

    assert most_workers(of(node(CPU=1.0), small, large), need) == 18
    assert most_workers(of(node(CPU=1.0), small, large, max_new_nodes=3), need) == 9
    assert most_workers(of(node(CPU=1.0), small, max_cpus=None), need) is None


def test_workers_wait_where_their_nodes_are_still_to_come() -> None:
    facts = of(node(CPU=4.0), node(CPU=4.0, count=1, present=False))

    assert not planned(facts, 1, scaling={"resources_per_worker": {"CPU": 4}}).must_wait
    resources = planned(facts, 2, scaling={"resources_per_worker": {"CPU": 4}})
    assert resources.must_wait
    assert "the cluster has 4 and can reach 8; waiting at most 300 s" in resources.warnings[0]


def test_workers_wait_where_the_cpus_are_there_and_no_node_has_enough_of_them() -> None:
    facts = of(node(CPU=3.0), node(CPU=3.0), node(CPU=4.0, present=False))

    resources = planned(facts, 1, scaling={"resources_per_worker": {"CPU": 4}})

    assert resources.must_wait
    assert (
        "0 of 1 workers, with 4 CPU each, fit on the nodes that are there" in resources.warnings[0]
    )


def test_a_node_without_room_for_a_worker_does_not_decide_its_memory() -> None:
    head, large = node(2, CPU=0.0), node(64, CPU=8.0, GPU=2.0)

    assert planned(of(head, large), 2, scaling={"use_gpu": False}).memory_bytes == 32 * GIB


def test_workers_share_the_memory_of_a_node_only_as_far_as_they_fit_there() -> None:
    facts = of(node(16, CPU=4.0), node(64, CPU=16.0))

    assert worker_memory(facts, {"CPU": 4.0}, 4) == 16 * GIB
    assert worker_memory(facts, {"CPU": 8.0}, 4) == 32 * GIB
    assert worker_memory(cluster(memory_bytes=8 * GIB), {"CPU": 1.0}, 2) == 4 * GIB


def test_the_memory_of_a_worker_on_a_gpu_is_that_of_the_gpu() -> None:
    facts = of(node(CPU=8.0, GPU=1.0), device="cuda", gpu_memory_bytes=80 * GIB)

    assert planned(facts, 1).memory_bytes == 80 * GIB
    half = planned(facts, 1, scaling={"resources_per_worker": {"CPU": 1, "GPU": 0.5}})
    assert half.memory_bytes == 40 * GIB


def test_gpus_that_are_still_to_come_are_warned_of_as_unknown() -> None:
    facts = of(node(CPU=8.0), node(CPU=8.0, GPU=1.0, present=False), device="cuda")

    resources = planned(facts, 1)

    assert resources.device == "cuda"
    assert resources.memory_bytes == 0
    assert "no GPU is there yet to ask for its memory" in resources.warnings[-1]


@pytest.mark.parametrize(
    ("nodes", "workers", "expected", "waits"),
    [
        # As many GPU nodes as workers come last; what the cluster can reach it does not say.
        ([{"CPU": 0.0}], 1, 1, True),
        ([{"CPU": 0.0}, {"CPU": 7.0}], 1, 1, True),
        ([{"CPU": 0.0}, {"CPU": 7.0}, {"CPU": 7.0, "GPU": 1.0}], 1, 7, False),
        ([{"CPU": 7.0}, {"CPU": 7.0, "GPU": 1.0}, {"CPU": 7.0, "GPU": 1.0}], 2, 7, False),
        ([{"CPU": 7.0}, {"CPU": 7.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 1.0}], 2, 3, False),
    ],
)
def test_a_share_of_cpus_fits_on_the_nodes_that_are_there_or_is_one(
    nodes: list[dict[str, float]], workers: int, expected: float, waits: bool
) -> None:
    facts = of(*(node(**resources) for resources in nodes), max_cpus=None, max_gpus=None)

    resources = planned(facts, workers, scaling={"use_gpu": True})

    assert (resources.cpus_per_worker, resources.must_wait) == (expected, waits)
    guessed = [text for text in resources.warnings if "until the nodes are there" in text]
    assert bool(guessed) is waits
