"""Waiting for room on a cluster."""

import pytest

from rayft.errors import ClusterError
from rayft.plan.resources import ResourcePlan
from rayft.runtime.signals import StopRequest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def workers(number: int) -> ResourcePlan:
    return ResourcePlan(
        num_workers=number,
        device="cpu",
        gpu_names=(),
        cpus_per_worker=1,
        gpus_per_worker=0,
        custom_per_worker=(),
        threads_per_worker=1,
        reachable_cpus=4,
        reachable_gpus=0,
        free_cpus=0,
        memory_bytes=0,
        must_wait=False,
        warnings=(),
    )


@pytest.mark.usefixtures("nothing_collected")
def test_forgotten_actors_do_not_keep_workers_waiting() -> None:
    import ray

    from rayft.runtime.waiting import wait_for_room

    @ray.remote(num_cpus=1)
    class Idle:
        def ready(self) -> bool:
            return True

    actor = Idle.remote()
    assert ray.get(actor.ready.remote())
    # As an error keeps what the frames of its traceback refer to, until cycles are collected.
    cycle: list[object] = [actor]
    cycle.append(cycle)
    del actor, cycle

    wait_for_room(workers(4), wait_s=30, request=StopRequest())


def test_workers_that_find_no_room_are_given_up() -> None:
    from rayft.runtime.waiting import wait_for_room

    with pytest.raises(ClusterError, match="5 workers with 1 CPU each did not fit within 1 s"):
        wait_for_room(workers(5), wait_s=1, request=StopRequest())
