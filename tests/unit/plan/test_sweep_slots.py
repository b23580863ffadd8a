"""Trials at a time: everything they reserve is added up, and never exceeds what there is."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayft.errors import ClusterError
from rayft.plan.facts import ClusterFacts, NodeFacts
from rayft.plan.resources import plan_resources
from rayft.plan.sweep_slots import cpus_of_trials, plan_slots
from tests.unit.plan.conftest import cluster, spec


def nodes(*cpus: float) -> ClusterFacts:
    found = tuple(
        NodeFacts(name=f"node{number}", resources={"CPU": each}, memory_bytes=2**34)
        for number, each in enumerate(cpus)
    )
    return replace(cluster(cpus=sum(cpus), max_cpus=sum(cpus)), nodes=found)


def resources_of(facts: ClusterFacts, *, workers: int, cpus: float) -> Any:
    scaling = {"num_workers": workers, "resources_per_worker": {"CPU": cpus}}
    return plan_resources(spec(scaling=scaling), facts)


def test_trials_with_one_worker_fill_the_nodes() -> None:
    facts = nodes(4, 3)

    slots = plan_slots(
        facts, resources_of(facts, workers=1, cpus=2), ingest="in_process", asked="auto"
    )

    assert slots.number == 3
    assert slots.unit == {"CPU": 2}


def test_ray_data_gets_a_cpu_beside_the_workers_of_each_trial() -> None:
    facts = nodes(6)
    resources = resources_of(facts, workers=2, cpus=1)

    assert plan_slots(facts, resources, ingest="in_process", asked="auto").number == 3
    assert plan_slots(facts, resources, ingest="ray_data", asked="auto").number == 2


def test_what_cannot_fit_is_refused_with_the_sum() -> None:
    facts = nodes(4, 4)

    with pytest.raises(ClusterError) as caught:
        plan_slots(facts, resources_of(facts, workers=2, cpus=2), ingest="in_process", asked=3)

    (problem,) = caught.value.problems
    assert problem.where == "max_concurrent"
    assert "3 trial(s) at a time reserve 12 CPU" in problem.what
    assert "reaches 8 CPU in all, which holds 2" in problem.what


def test_a_trial_whose_feed_finds_no_cpu_is_refused() -> None:
    facts = nodes(2)

    with pytest.raises(ClusterError, match="1 CPU for Ray Data"):
        plan_slots(facts, resources_of(facts, workers=2, cpus=1), ingest="ray_data", asked="auto")


def test_a_cluster_that_does_not_say_what_it_reaches_gets_what_was_asked_for() -> None:
    facts = replace(nodes(2), max_cpus=None, nodes=())

    slots = plan_slots(facts, resources_of(facts, workers=1, cpus=1), ingest="in_process", asked=5)

    assert slots.number == 5


@given(
    cpus=st.lists(st.integers(1, 16), min_size=1, max_size=4),
    workers=st.integers(1, 3),
    each=st.integers(1, 4),
    fed=st.booleans(),
)
def test_no_plan_exceeds_the_cluster(cpus: list[int], workers: int, each: int, fed: bool) -> None:
    facts = nodes(*map(float, cpus))
    try:
        resources = resources_of(facts, workers=workers, cpus=each)
        slots = plan_slots(
            facts, resources, ingest="ray_data" if fed else "in_process", asked="auto"
        )
    except ClusterError:
        return

    assert slots.number >= 1
    assert slots.number * (workers * each + fed) <= sum(cpus)
    assert slots.number * workers <= sum(node // each for node in cpus)


@pytest.mark.parametrize(
    ("cpus", "units", "expected"), [(2, 24, 1), (2, 1, 2), (8, 3, 2), (64, 1, 8), (16, 40, 1)]
)
def test_trials_run_side_by_side_before_they_get_threads(
    cpus: float, units: int, expected: float
) -> None:
    assert cpus_of_trials(nodes(cpus), units=units, use_gpu=False) == expected


def test_beside_gpus_cpus_are_shared_by_gpu() -> None:
    facts = replace(nodes(16), gpus=4.0, max_gpus=4.0)

    assert cpus_of_trials(facts, units=40, use_gpu=True) == 4
