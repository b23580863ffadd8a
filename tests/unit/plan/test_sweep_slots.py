"""Trials at a time: everything they reserve is added up, and never exceeds what there is."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayft.errors import ClusterError
from rayft.plan.facts import ClusterFacts, NodeFacts
from rayft.plan.ingest import plan_ingest
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


def test_ray_data_gets_a_cpu_beside_each_worker_of_a_trial() -> None:
    facts = nodes(6)
    resources = resources_of(facts, workers=2, cpus=1)

    assert plan_slots(facts, resources, ingest="in_process", asked="auto").number == 3
    assert plan_slots(facts, resources, ingest="ray_data", asked="auto").number == 1


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

    with pytest.raises(ClusterError, match="2 CPU for Ray Data"):
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
    assert slots.number * workers * (each + fed) <= sum(cpus)
    assert slots.number * workers <= sum(node // each for node in cpus)


def cpus_for(
    facts: ClusterFacts, *, units: int = 40, ingest: Any = "in_process", **run: Any
) -> int:
    """Return the CPUs of each trial, and check that a plan with them holds as many trials."""
    scaling = {"num_workers": 1, **run.pop("scaling", {})}
    each = {"CPU": 1.0, **scaling.pop("resources_per_worker", {})}
    bare = plan_resources(spec(scaling={**scaling, "resources_per_worker": each}, **run), facts)
    cpus = cpus_of_trials(facts, bare, ingest=ingest, units=units)
    more = {**each, "CPU": cpus}
    chosen = plan_resources(spec(scaling={**scaling, "resources_per_worker": more}, **run), facts)
    plan_ingest(ingest, chosen, prepare_rows_per_s=1.0, model_rows_per_s=1.0)
    slots = [plan_slots(facts, one, ingest=ingest, asked="auto").number for one in (bare, chosen)]
    assert slots[1] >= min(units, slots[0])
    return int(cpus)


def with_gpus(*sizes: tuple[float, float]) -> ClusterFacts:
    """Return a cluster of nodes with so many CPUs and GPUs."""
    found = tuple(
        NodeFacts(name=f"node{number}", resources={"CPU": cpus, "GPU": gpus}, memory_bytes=2**34)
        for number, (cpus, gpus) in enumerate(sizes)
    )
    cpus, gpus = (float(sum(amounts)) for amounts in zip(*sizes, strict=True))
    changes = {"gpus": gpus, "max_gpus": gpus, "device": "cuda", "gpu_memory_bytes": 2**34}
    return replace(cluster(cpus=cpus, max_cpus=cpus, **changes), nodes=found)


@pytest.mark.parametrize(
    ("cpus", "units", "expected"), [(2, 24, 1), (2, 1, 2), (8, 3, 2), (64, 1, 8), (16, 40, 1)]
)
def test_trials_run_side_by_side_before_they_get_threads(
    cpus: float, units: int, expected: float
) -> None:
    assert cpus_for(nodes(cpus), units=units) == expected


def test_no_trial_gets_more_cpus_than_lets_the_others_find_a_node() -> None:
    assert cpus_for(nodes(8, 2), units=2) == 4
    assert cpus_for(nodes(6, 4, 4), units=3) == 4
    assert cpus_for(nodes(16), units=2, scaling={"num_workers": 2}) == 4
    assert cpus_for(nodes(16), units=2, scaling={"num_workers": 2}, ingest="ray_data") == 3


@pytest.mark.parametrize(("cpus", "workers", "expected"), [(7, 2, 2), (9, 2, 3), (16, 3, 4)])
def test_trials_that_ray_data_feeds_leave_a_cpu_for_each_worker(
    cpus: float, workers: int, expected: int
) -> None:
    scaling = {"num_workers": workers}
    assert cpus_for(nodes(cpus), units=1, scaling=scaling, ingest="ray_data") == expected


@pytest.mark.parametrize("units", [1, 40])
def test_beside_gpus_cpus_are_shared_by_gpu(units: int) -> None:
    assert cpus_for(with_gpus((16, 4)), units=units) == 4


def test_the_cpus_of_nodes_without_gpus_are_none_of_theirs() -> None:
    assert cpus_for(with_gpus((16, 4), (16, 4), (64, 0))) == 4
    assert cpus_for(with_gpus((4, 1), (4, 1), (16, 0))) == 4


def test_trials_that_share_a_gpu_share_its_cpus() -> None:
    assert cpus_for(with_gpus((16, 1)), scaling={"resources_per_worker": {"GPU": 0.25}}) == 4
    assert cpus_for(with_gpus((10, 1)), scaling={"resources_per_worker": {"GPU": 0.2}}) == 2


def test_a_cluster_that_does_not_say_what_it_reaches_shares_what_it_has() -> None:
    silent = replace(with_gpus((16, 4)), max_cpus=None, max_gpus=None)
    none_yet = replace(with_gpus((16, 0)), max_cpus=None, max_gpus=None)

    assert cpus_for(silent) == 4
    assert cpus_for(none_yet, scaling={"use_gpu": True}) == 1
