"""Wait until the cluster has room for the workers: an autoscaler, or another run, may make it."""

import gc
import time
from collections.abc import Mapping

import ray

from rayft.errors import ClusterError, Problem, Stopped
from rayft.plan.placement import in_words
from rayft.plan.resources import ResourcePlan
from rayft.runtime.signals import StopRequest

_LOOK_EVERY_S = 0.5


def reservation(resources: ResourcePlan) -> dict[str, float]:
    """Return what one worker reserves, as Ray wants it."""
    reserved = {"CPU": resources.cpus_per_worker, **dict(resources.custom_per_worker)}
    if resources.gpus_per_worker:
        reserved["GPU"] = resources.gpus_per_worker
    return reserved


def wait_for_room(resources: ResourcePlan, *, wait_s: float, request: StopRequest) -> None:
    """Wait until all workers fit at the same time; an autoscaler sees the demand and adds nodes.

    Ray Train alone would wait without end, and say nothing.

    Args:
        resources: the workers.
        wait_s: longest wait, in seconds.
        request: ends the wait, once a signal has asked for it.

    Raises:
        ClusterError: there was not enough room within `wait_s`.
        Stopped: a signal asked for it.
    """
    worker, number = reservation(resources), resources.num_workers
    if not room_comes(worker, number, wait_s=wait_s, request=request):
        raise _no_room(number, worker, wait_s)


def room_comes(
    worker: Mapping[str, float], number: int, *, wait_s: float, request: StopRequest
) -> bool:
    """Wait until so many workers fit at the same time; return whether they do.

    Raises:
        Stopped: a signal asked for it.
    """
    group = ray.util.placement_group([dict(worker)] * number, strategy="PACK")
    until = time.monotonic() + wait_s
    try:
        if group.wait(_LOOK_EVERY_S):
            return True
        # Actors that this process forgot in cycles of references may be what fills the
        # cluster. Ray has them collected for the sake of a task or an actor, not of a group.
        gc.collect()
        while not group.wait(_LOOK_EVERY_S):
            if request.signal:
                what = "stopped as asked, while waiting for room on the cluster"
                fix = "run the same command again to go on"
                raise Stopped(Problem("scaling", what, fix), signal=request.signal)
            if time.monotonic() > until:
                return False
        return True
    finally:
        ray.util.remove_placement_group(group)


def _no_room(num_workers: int, worker: Mapping[str, float], wait_s: float) -> ClusterError:
    return ClusterError(
        Problem(
            "scaling",
            f"{num_workers} workers with {in_words(worker)} each did not fit within {wait_s:g} s",
            "see with `ray status` what is in use and which nodes did not come; free some, raise "
            "the cluster's limits, or raise scaling.wait_s",
        )
    )
