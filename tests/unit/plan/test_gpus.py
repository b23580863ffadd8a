"""Workers compute on GPUs that are theirs; what would share, waste or miss one is refused."""

from dataclasses import replace
from typing import Any

import pytest

from rayft.errors import ClusterError, SpecError
from rayft.plan.facts import ClusterFacts
from rayft.plan.resources import ResourcePlan, plan_resources
from tests.unit.plan.conftest import cluster, spec


def gpus(number: float, *, reach: float | None = None) -> ClusterFacts:
    """Return the facts of a machine with GPUs, or of a cluster that can get some."""
    return cluster(gpus=number, max_gpus=number if reach is None else reach, device="cuda")


def planned(facts: ClusterFacts, *, device: str = "auto", **scaling: Any) -> ResourcePlan:
    return plan_resources(spec(scaling=scaling, device=device, global_batch_size=16), facts)


def refused(facts: ClusterFacts, *, device: str = "auto", **scaling: Any) -> str:
    with pytest.raises(SpecError) as caught:
        planned(facts, device=device, **scaling)
    return str(caught.value)


@pytest.mark.parametrize("use_gpu", [True, "auto"])
@pytest.mark.parametrize("number", [1, 2])
def test_parts_of_gpus_for_several_workers_are_refused(use_gpu: Any, number: int) -> None:
    half = {"CPU": 1, "GPU": 0.5}

    assert refused(gpus(number), num_workers=2, use_gpu=use_gpu, resources_per_worker=half) == (
        "scaling.resources_per_worker.GPU: 0.5 is a part of a GPU; 2 workers are connected by "
        "NCCL, which needs a whole one for each\n"
        "  fix: set it to 1, or scaling.num_workers to 1"
    )


def test_a_worker_alone_may_take_a_part_of_a_gpu() -> None:
    resources = planned(gpus(1), num_workers=1, resources_per_worker={"GPU": 0.5})

    assert (resources.device, resources.gpus_per_worker) == ("cuda", 0.5)


@pytest.mark.parametrize("share", [1.5, 2])
def test_a_gpu_that_its_worker_would_leave_idle_is_refused(share: float) -> None:
    assert refused(gpus(4), num_workers=1, resources_per_worker={"GPU": share}) == (
        f"scaling.resources_per_worker.GPU: a worker computes on one GPU, and {share:g} would "
        "leave the rest idle\n  fix: set it to 1"
    )


@pytest.mark.parametrize(
    ("scaling", "device"),
    [({"use_gpu": False}, "auto"), ({}, "cpu"), ({"use_gpu": "auto", "num_workers": 2}, "auto")],
)
def test_gpus_reserved_for_workers_on_cpus_are_refused(
    scaling: dict[str, Any], device: str
) -> None:
    assert refused(gpus(1), device=device, resources_per_worker={"GPU": 1}, **scaling) == (
        "scaling.resources_per_worker.GPU: 1 reserves GPUs, and the workers compute on cpu\n"
        "  fix: remove it, or set scaling.use_gpu to true and device to auto"
    )


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_gpus_asked_for_beside_another_device_are_refused(device: str) -> None:
    assert refused(gpus(1), device=device, use_gpu=True) == (
        f"scaling.use_gpu: true reserves GPUs while device: {device} leaves them idle\n"
        "  fix: remove one of the two"
    )


def test_the_calling_process_reserves_nothing() -> None:
    assert planned(cluster(), num_workers=0, resources_per_worker={"GPU": 1}).device == "cpu"


@pytest.mark.parametrize(
    ("asked", "where"),
    [({"use_gpu": True}, "scaling.use_gpu"), ({"device": "cuda"}, "device")],
)
def test_a_gpu_that_the_calling_process_does_not_have_is_refused(
    asked: dict[str, Any], where: str
) -> None:
    with pytest.raises(ClusterError) as caught:
        planned(cluster(), num_workers=0, **asked)

    assert str(caught.value) == (
        f"{where}: a GPU is asked for, and the calling process, which computes where "
        "scaling.num_workers is 0, has none\n"
        "  fix: set device and scaling.use_gpu to auto, or run it on a machine with a GPU"
    )
    assert planned(gpus(1), num_workers=0, **asked).device == "cuda"


def test_a_trial_in_one_process_waits_for_a_gpu_that_may_come() -> None:
    assert planned(gpus(0, reach=4), num_workers=0, use_gpu=True).device == "cuda"


def test_gpus_that_auto_leaves_idle_are_warned_of() -> None:
    resources = planned(gpus(1), num_workers=2)

    assert resources.device == "cpu"
    assert resources.warnings == (
        "the workers compute on cpu: the cluster reaches 1 GPU for 2 workers; at most 1 "
        "worker would compute on GPUs (scaling.num_workers)",
    )


@pytest.mark.parametrize("there", [0, 1])
def test_gpus_that_may_be_still_to_come_are_warned_of(there: int) -> None:
    facts = replace(gpus(there), max_gpus=None, device="cuda" if there else "cpu")

    resources = planned(facts, num_workers=2)

    assert resources.device == "cpu"
    assert resources.warnings == (
        f"the workers compute on cpu: the cluster has {there} GPU{'s' * (not there)} for 2 workers "
        "and does not say what it can reach; with scaling.use_gpu=true they wait for GPUs",
    )


@pytest.mark.parametrize(
    ("facts", "asked"),
    [
        (gpus(2), {}),
        (gpus(1), {"use_gpu": False}),
        (gpus(1), {"device": "cpu"}),
        (cluster(), {}),
    ],
)
def test_cpus_that_were_asked_for_or_are_all_there_is_are_no_news(
    facts: ClusterFacts, asked: dict[str, Any]
) -> None:
    assert not [each for each in planned(facts, num_workers=2, **asked).warnings if "cpu:" in each]


def test_a_share_of_cpus_before_the_nodes_have_come_is_warned_of() -> None:
    facts = cluster(cpus=0.0, max_cpus=None, max_gpus=None)
    warning = (
        "each worker reserves 1 CPU until the nodes are there, because the cluster does not say "
        "what they have; scaling.resources_per_worker.CPU sets it"
    )

    assert warning in planned(facts, use_gpu=False).warnings
    for known in (
        planned(facts, resources_per_worker={"CPU": 2}),
        planned(replace(facts, max_cpus=8.0)),
        planned(replace(facts, cpus=8.0)),
    ):
        assert not [each for each in known.warnings if "each worker reserves" in each]
