"""Connect to Ray, start the workers, there or in the calling process, and watch over them."""

import logging
import os
import threading
from collections.abc import Callable
from typing import cast

import ray
import torch

import rayft.errors
from rayft.engine.ports import OneRank
from rayft.errors import Problem, RayftError, Stopped, TrainingError
from rayft.models.weights import LoadedWeights
from rayft.runtime.address import check_address, named_cluster, nothing_there
from rayft.runtime.allocator import ENVIRONMENT, inherited_by_children, keep_freed_memory
from rayft.runtime.available import available_cpus, available_gpus
from rayft.runtime.job import Job, work
from rayft.runtime.journal import ENDS, Event, Reader, read_journal
from rayft.runtime.nodes import check_nodes
from rayft.runtime.signals import StopRequest, exit_on_sigterm, stop_on_signals
from rayft.runtime.waiting import wait_for_room
from rayft.runtime.workers import Fit
from rayft.storage.location import Location

OnEvent = Callable[[Event], None]
_LOOK_EVERY_S = 0.2

# Ray Train hands these on to its controller: how often it looks at its workers, and that it leaves
# `print` alone. They must not go into the driver's runtime environment: a job that was submitted
# with one of them in its own could then not connect.
_TRAIN_ENV = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}


def start_ray() -> bool:
    """Connect to the cluster that `RAY_ADDRESS` names, or start one on this machine.

    Returns:
        Whether this call has connected: to disconnect, which also ends a cluster that was started
        here, is then the caller's to do.

    Raises:
        ClusterError: no cluster answers at `RAY_ADDRESS`.
    """
    if ray.is_initialized():
        return False
    for name, value in _TRAIN_ENV.items():
        os.environ.setdefault(name, value)
    # Ray speaks of its own affairs at length; rayft says what matters of them.
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    address = named_cluster()
    if address is None:
        with inherited_by_children():
            # What the plan counted; Ray's own count of CPUs may differ inside a container, and it
            # counts GPUs that torch cannot use. Without "local" Ray would take to a cluster that
            # someone has started on this machine.
            ray.init(
                "local",
                num_cpus=available_cpus(),
                num_gpus=available_gpus(),
                include_dashboard=False,
                **options,
            )
    else:
        check_address(address)
        try:
            ray.init(address, **options)
        except ConnectionError as error:
            raise nothing_there(address, str(error)) from error
    exit_on_sigterm()
    return True


def connect_if_told() -> bool:
    """Connect to the cluster that `RAY_ADDRESS` names; start nothing.

    Returns:
        Whether this call has connected.

    Raises:
        ClusterError: no cluster answers there.
    """
    return named_cluster() is not None and start_ray()


def train_here(job: Job, weights: LoadedWeights | None, on_event: OnEvent) -> None:
    """Train in the calling process, on the code that workers run.

    Raises:
        Stopped: asked to by a signal.
        TrainingError: the run cannot go on.
    """
    device = torch.device(job.plan.resources.device)
    reader = read_journal(job.folder.place, attempt=job.attempt)
    done = threading.Event()
    watcher = threading.Thread(
        target=_pass_on_until, args=(reader, on_event, done), name="rayft-journal"
    )
    watcher.start()
    keep_freed_memory()
    with stop_on_signals(job) as request:
        try:
            work(job, weights, ranks=OneRank(), device=device)
        except Stopped as stopped:
            raise Stopped(*stopped.problems, signal=request.signal) from None
        finally:
            done.set()
            watcher.join()


def train_on_ray(
    job: Job, weights: LoadedWeights | None, on_event: OnEvent, *, owns_cluster: bool
) -> None:
    """Train with Ray Train workers, which Ray restarts where one is lost.

    Args:
        job: the attempt.
        weights: pretrained weights.
        on_event: hears what the workers write to the journal.
        owns_cluster: whether rayft connected to Ray, and disconnects when this returns.

    Raises:
        Stopped: asked to by a signal.
        TrainingError: the run cannot go on, or failed too often.
        ClusterError: the nodes that were waited for did not come, or differ from the driver.
    """
    reader = read_journal(job.folder.place, attempt=job.attempt)
    environment = worker_environment(owns_cluster=owns_cluster)
    fit = Fit(job, weights, environment=environment, owns_cluster=owns_cluster)
    with stop_on_signals(job) as request:
        if not (owns_cluster and named_cluster() is None):
            _wait_for_room(job, request)
        fit.start()
        end = _watch(fit, reader, on_event, request if owns_cluster else None)
        if fit.is_alive():
            fit.leave()
    _conclude(job, end, fit.error, request.signal)


def _wait_for_room(job: Job, request: StopRequest) -> None:
    resources = job.plan.resources
    wait_for_room(resources, wait_s=job.plan.spec.scaling.wait_s, request=request)
    if resources.must_wait:
        # Nodes have come since the others were checked.
        check_nodes(Location(job.storage_path))


def worker_environment(*, owns_cluster: bool) -> dict[str, str]:
    """Return what workers need, and neither inherit nor are given by the job.

    Those of a cluster that was started here inherit it, and start faster without another one.

    Args:
        owns_cluster: whether rayft connected to Ray.
    """
    if owns_cluster and named_cluster() is None:
        return {}
    given = ray.get_runtime_context().runtime_env.get("env_vars", {})
    return {name: value for name, value in ENVIRONMENT.items() if name not in given}


def _watch(fit: Fit, reader: Reader, on_event: OnEvent, leaves: StopRequest | None) -> Event | None:
    """Hand events on until the workers are done; return the one that ends the attempt.

    Args:
        fit: the workers.
        reader: what they write.
        on_event: hears it.
        leaves: given where the connection to Ray is left afterwards, which ends the workers too:
            an attempt that is over is then left at once, and so is one that was asked to stop
            before its first event. Otherwise Ray Train would have to start the workers again, for
            them to find that the attempt is over.
    """
    end, heard = None, False
    while fit.is_alive():
        for event in reader.new_events():
            heard = True
            on_event(event)
            end = event if event["kind"] in ENDS else end
        over = end is not None and end["kind"] != "finished"
        if leaves and (over or (leaves.signal and not heard)):
            return end
        fit.join(_LOOK_EVERY_S)
    return _pass_on(reader, on_event) or end


def _conclude(job: Job, end: Event | None, error: BaseException | None, signal: int) -> None:
    if end is not None and end["kind"] == "finished":
        return
    if end is not None:
        found = cast(list[list[str]], end["problems"])
        problems = [Problem(*map(str, problem)) for problem in found]
        if end["kind"] != "stopped":
            raise getattr(rayft.errors, str(end["error"]), TrainingError)(*problems)
        raise Stopped(*problems, signal=signal)
    if signal:
        what = "stopped as asked, before the first step of this attempt"
        fix = "run the same command again to go on"
        raise Stopped(Problem(str(job.folder.place), what, fix), signal=signal)
    if (deliberate := _deliberate(error)) is not None:
        raise deliberate
    raise TrainingError(
        Problem(
            str(job.folder.place),
            f"the workers failed more than scaling.max_failures allows: {root_cause(error)}",
            "look at the cause; the same command goes on from the newest checkpoint",
        )
    ) from error


def _deliberate(error: BaseException | None) -> RayftError | None:
    """Return what a worker refused and could not write to the journal, which it may not see."""
    failures = getattr(error, "worker_failures", None) or {}
    return next((one for one in failures.values() if isinstance(one, RayftError)), None)


def root_cause(error: BaseException | None) -> str:
    """Return the last line of the innermost error's text: the one that says what happened."""
    if error is None:
        return "no worker left a reason"
    failures = getattr(error, "worker_failures", None) or {}
    inner = next(iter(failures.values()), error)
    lines = [line for line in str(inner).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(inner).__name__


def _pass_on(reader: Reader, on_event: OnEvent) -> Event | None:
    """Hand the last events on; return the one that ends the attempt, if it came."""
    end = None
    for event in reader.new_events(last=True):
        on_event(event)
        end = event if event["kind"] in ENDS else end
    return end


def _pass_on_until(reader: Reader, on_event: OnEvent, done: threading.Event) -> None:
    while not done.wait(_LOOK_EVERY_S):
        for event in reader.new_events():
            on_event(event)
    _pass_on(reader, on_event)
