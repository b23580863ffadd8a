"""How many workers predict, with how many CPUs each, and in which batches."""

from dataclasses import replace

import pytest

from rayft.errors import ClusterError
from rayft.plan.facts import DeviceName, NodeFacts
from rayft.runtime import predict_scale
from rayft.runtime.predict_scale import (
    Machines,
    Scale,
    auto_batch_size,
    choose_device,
    rows_per_part,
    scale,
)


def node(cpus: float, gpus: float = 0) -> NodeFacts:
    return NodeFacts(name="n", resources={"CPU": cpus, "GPU": gpus}, memory_bytes=0)


def kind(cpus: float, gpus: float = 0, *, count: int) -> NodeFacts:
    """Return a kind of nodes that an autoscaler can add."""
    return replace(node(cpus, gpus), count=count, present=False)


def cluster(*nodes: NodeFacts, most_new: int | None = 0) -> Machines:
    return Machines(nodes=nodes, most_new=most_new, is_cluster=True)


@pytest.fixture(autouse=True)
def _four_cpus_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_scale, "available_cpus", lambda: 4)


@pytest.mark.parametrize(
    ("nodes", "device", "is_cluster", "workers", "lanes"),
    [
        ([node(4)], "cpu", False, 0, 4),
        ([node(64)], "cpu", False, 8, 8),
        ([node(8, 1)], "cuda", False, 0, 4),
        ([node(96, 8)], "cuda", False, 8, 12),
        ([node(4)], "mps", False, 0, 4),
        ([node(0), node(8), node(20)], "cpu", True, 4, 6),
        ([node(16), node(12, 2), node(12, 1)], "cuda", True, 3, 6),
        ([node(2)], "cpu", True, 1, 2),
    ],
)
def test_auto_takes_what_there_is(
    nodes: list[NodeFacts],
    device: DeviceName,
    is_cluster: bool,
    workers: int,
    lanes: int,
) -> None:
    machines = Machines(nodes=nodes, is_cluster=is_cluster)

    found = scale(machines, workers="auto", device=device)

    assert found == Scale(workers=workers, device=device, lanes=lanes)


@pytest.mark.parametrize(("workers", "lanes"), [(1, 16), (2, 12), (3, 10), (4, 6), (10, 3)])
def test_a_worker_lies_on_one_node_with_its_share_of_cpus(workers: int, lanes: int) -> None:
    found = scale(cluster(node(20), node(12)), workers=workers, device="cpu")

    assert found.lanes == lanes


def test_workers_that_do_not_fit_are_refused_with_how_many_do() -> None:
    with pytest.raises(ClusterError) as caught:
        scale(cluster(node(1), node(2)), workers=4, device="cpu")
    assert "4 workers need 1 CPU each, and 3 fit" in str(caught.value)

    with pytest.raises(ClusterError, match="3 workers need 1 CPU, 1 GPU each, and 2 fit"):
        scale(cluster(node(8, 2)), workers=3, device="cuda")

    with pytest.raises(ClusterError, match="3 fit on the machines there are, and those that can"):
        scale(cluster(node(1), kind(1, count=9), most_new=2), workers=4, device="cpu")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)

    assert choose_device("auto", cluster(node(4))) == "cpu"
    assert choose_device("auto", cluster(node(4), node(4, 1))) == "cuda"
    assert choose_device("cpu", cluster(node(4, 1))) == "cpu"
    with pytest.raises(ClusterError, match="there is no cuda device"):
        choose_device("cuda", cluster(node(4)))
    with pytest.raises(ClusterError, match="there is no cuda device"):
        choose_device("cuda", cluster(node(4), kind(4, 1, count=2), most_new=0))


def test_gpus_that_can_be_added_are_taken_and_one_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    machines = cluster(node(0), kind(8, 2, count=4), most_new=3)

    assert choose_device("auto", machines) == "cuda"
    assert scale(machines, workers="auto", device="cuda") == Scale(
        workers=1, device="cuda", lanes=8, must_wait=True
    )
    assert scale(machines, workers=6, device="cuda") == Scale(
        workers=6, device="cuda", lanes=4, must_wait=True
    )


def test_a_cluster_whose_workers_are_scaled_to_zero_predicts_on_one_that_comes() -> None:
    machines = cluster(node(0), kind(8, count=4), most_new=4)

    found = scale(machines, workers="auto", device="cpu")

    assert found == Scale(workers=1, device="cpu", lanes=8, must_wait=True)


def test_nodes_that_are_there_are_taken_before_others_are_added() -> None:
    machines = cluster(node(0), node(6), kind(16, count=4), most_new=4)

    assert scale(machines, workers="auto", device="cpu") == Scale(workers=1, device="cpu", lanes=6)
    assert scale(machines, workers=3, device="cpu") == Scale(workers=3, device="cpu", lanes=2)
    assert scale(machines, workers=7, device="cpu") == Scale(
        workers=7, device="cpu", lanes=8, must_wait=True
    )


def test_a_cluster_that_does_not_say_how_far_it_grows_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    empty, begun = cluster(node(0), most_new=None), cluster(node(0), node(7, 1), most_new=None)

    assert choose_device("auto", empty) == "cpu"
    assert choose_device("cuda", empty) == "cuda"
    assert scale(empty, workers=4, device="cuda") == Scale(
        workers=4, device="cuda", lanes=1, must_wait=True
    )
    assert scale(empty, workers="auto", device="cpu").workers == 1
    assert scale(begun, workers=4, device="cuda") == Scale(workers=4, device="cuda", lanes=7)


@pytest.mark.parametrize(
    ("num_rows", "image_size", "device", "expected"),
    [
        (10_000, 224, "cpu", 32),
        (10_000, 224, "cuda", 256),
        (10_000, 32, "cpu", 128),
        (10_000, 32, "cuda", 1024),
        (10_000, 2048, "cpu", 1),
        (10_000, 1024, "cuda", 8),
        (1, 224, "cuda", 1),
        (33, 224, "cuda", 64),
    ],
)
def test_auto_batches_fit_the_device_and_the_input(
    num_rows: int, image_size: int, device: DeviceName, expected: int
) -> None:
    assert auto_batch_size(num_rows, image_size=image_size, device=device) == expected


@pytest.mark.parametrize(
    ("num_rows", "num_classes", "batch_size", "expected"),
    [
        (10, 10, 32, 256),
        (1_000_000, 10, 32, 3936),
        (100_000_000, 10, 32, 16_384),
        (100_000_000, 21_841, 32, 768),
        (10, 10**9, 32, 32),
        (10, 10, 1000, 1000),
    ],
)
def test_parts_are_neither_many_nor_huge(
    num_rows: int, num_classes: int, batch_size: int, expected: int
) -> None:
    found = rows_per_part(num_rows, num_classes=num_classes, batch_size=batch_size)

    assert found == expected
    assert found % batch_size == 0
