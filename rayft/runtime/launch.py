"""Start the workers: in the calling process, or as Ray Train workers, and watch over them."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import cast

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig

import rayft.errors
from rayft.engine.ports import OneRank
from rayft.engine.ranks import DistributedRanks
from rayft.errors import ClusterError, Problem, Stopped, TrainingError
from rayft.models.weights import LoadedWeights
from rayft.plan.resources import ResourcePlan
from rayft.runtime.allocator import ENVIRONMENT, inherited_by_children, keep_freed_memory
from rayft.runtime.facts import available_cpus
from rayft.runtime.job import Job, work
from rayft.runtime.journal import Event, JournalReader
from rayft.runtime.packed import PackedWeights, packed, unpacked
from rayft.runtime.signals import stop_on_signals, stop_signal

OnEvent = Callable[[Event], None]
_LOOK_EVERY_S = 0.2
_ENDS = {"finished", "stopped", "failed"}

# Read by Ray Train's controller, which inherits them: how often it looks at its workers, and that
# it leaves `print` alone.
_TRAIN_ENV = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}


def start_ray() -> bool:
    """Connect to the cluster around, or start one on this machine; return whether it is ours."""
    if ray.is_initialized():
        return False
    for name, value in _TRAIN_ENV.items():
        os.environ.setdefault(name, value)
    # Ray speaks of its own affairs at length; rayft says what matters of them.
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" in os.environ:
        ray.init(runtime_env={"env_vars": _TRAIN_ENV}, **options)
        return False
    with inherited_by_children():
        # The CPUs that the plan counted; Ray's own count may differ inside a container.
        ray.init(num_cpus=available_cpus(), include_dashboard=False, **options)
    return True


def connect_if_told() -> None:
    """Connect to the cluster that `RAY_ADDRESS` names; start nothing."""
    if "RAY_ADDRESS" in os.environ:
        start_ray()


def train_here(job: Job, weights: LoadedWeights | None, on_event: OnEvent) -> None:
    """Train in the calling process, on the code that workers run.

    Raises:
        Stopped: asked to by a signal.
        TrainingError: the run cannot go on.
    """
    device = torch.device(job.plan.resources.device)
    reader = JournalReader(job.folder.journal, attempt=job.attempt)
    done = threading.Event()
    watcher = threading.Thread(
        target=_pass_on_until, args=(reader, on_event, done), name="rayft-journal"
    )
    watcher.start()
    try:
        keep_freed_memory()
        with stop_on_signals(job):
            work(job, weights, ranks=OneRank(), device=device)
    except Stopped as stopped:
        raise Stopped(*stopped.problems, signal=stop_signal(job)) from None
    finally:
        done.set()
        watcher.join()


def train_on_ray(
    job: Job, weights: LoadedWeights | None, on_event: OnEvent, *, owns_cluster: bool
) -> None:
    """Train with Ray Train workers, which Ray restarts where one is lost.

    Raises:
        Stopped: asked to by a signal.
        TrainingError: the run cannot go on, or failed too often.
        ClusterError: the nodes that were waited for did not come.
    """
    wait_for_resources(job.plan.resources, wait_s=job.plan.spec.scaling.wait_s)
    reader = JournalReader(job.folder.journal, attempt=job.attempt)
    # Workers of our own cluster inherit this, and start faster without a runtime environment.
    environment = {} if owns_cluster else ENVIRONMENT
    fit = _Fit(job, weights, environment)
    with stop_on_signals(job):
        fit.start()
        end: Event | None = None
        while fit.is_alive():
            end = _pass_on(reader, on_event) or end
            if end is not None and end["kind"] != "finished" and owns_cluster:
                # The group would be restarted only to find that the attempt is over.
                break
            fit.join(_LOOK_EVERY_S)
        end = _pass_on(reader, on_event) or end
    _conclude(job, end, fit.error)


def _conclude(job: Job, end: Event | None, error: BaseException | None) -> None:
    if end is not None and end["kind"] == "finished":
        return
    if end is not None:
        found = cast(list[list[str]], end["problems"])
        problems = [Problem(*map(str, problem)) for problem in found]
        if end["kind"] != "stopped":
            raise getattr(rayft.errors, str(end["error"]), TrainingError)(*problems)
        raise Stopped(*problems, signal=stop_signal(job))
    raise TrainingError(
        Problem(
            str(job.folder.path),
            f"the workers failed more than scaling.max_failures allows: {_root_cause(error)}",
            "look at the cause; the same command goes on from the newest checkpoint",
        )
    ) from error


def _root_cause(error: BaseException | None) -> str:
    """Return the last line of the innermost error's text: the one that says what happened."""
    if error is None:
        return "no worker left a reason"
    failures = getattr(error, "worker_failures", None) or {}
    inner = next(iter(failures.values()), error)
    lines = [line for line in str(inner).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(inner).__name__


class _Fit(threading.Thread):
    """`TorchTrainer.fit` in a thread, so that the main thread is free for signals."""

    def __init__(
        self, job: Job, weights: LoadedWeights | None, environment: Mapping[str, str]
    ) -> None:
        super().__init__(name="rayft-fit", daemon=True)
        self._job = job
        self._weights = weights
        self._environment = environment
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the attempt to its end."""
        try:
            _make_trainer(self._job, self._weights, self._environment).fit()
        except BaseException as error:  # noqa: BLE001  raised by the thread that waits
            self.error = error


def _make_trainer(
    job: Job, weights: LoadedWeights | None, environment: Mapping[str, str]
) -> "ray.train.torch.TorchTrainer":
    from ray.train.torch import TorchTrainer

    resources, scaling = job.plan.resources, job.plan.spec.scaling
    return TorchTrainer(
        _ray_worker,
        # Weights are resolved once, here, and travel once through the object store.
        train_loop_config={"job": job, "weights": ray.put(packed(weights))},
        scaling_config=ScalingConfig(
            num_workers=resources.num_workers,
            use_gpu=resources.device == "cuda",
            resources_per_worker=_reservation(resources),
        ),
        run_config=RunConfig(
            # A name of its own for each attempt: Ray's index of an earlier one, which is not
            # crash-safe, can then never be in the way.
            name=f"attempt-{job.attempt:04d}",
            storage_path=str(job.folder.path / "ray"),
            failure_config=FailureConfig(max_failures=scaling.max_failures),
            worker_runtime_env={"env_vars": dict(environment)} if environment else None,
        ),
    )


def _reservation(resources: ResourcePlan) -> dict[str, float]:
    reserved = {"CPU": resources.cpus_per_worker, **dict(resources.custom_per_worker)}
    if resources.gpus_per_worker:
        reserved["GPU"] = resources.gpus_per_worker
    return reserved


def _ray_worker(config: dict[str, object]) -> None:
    import ray.train.torch

    job = cast(Job, config["job"])
    weights = unpacked(ray.get(cast("ray.ObjectRef[PackedWeights | None]", config["weights"])))
    device = ray.train.torch.get_device()
    if job.plan.resources.device == "mps":
        device = torch.device("mps")
    metrics = work(job, weights, ranks=DistributedRanks(device), device=device)
    ray.train.report(metrics)


def wait_for_resources(resources: ResourcePlan, *, wait_s: float) -> None:
    """Wait until an autoscaler has brought what the workers need.

    Raises:
        ClusterError: it did not within `wait_s`.
    """
    if not resources.must_wait:
        return
    group = ray.util.placement_group(
        [_reservation(resources)] * resources.num_workers, strategy="PACK"
    )
    try:
        if not group.wait(wait_s):
            raise ClusterError(
                Problem(
                    "scaling",
                    f"{resources.num_workers} workers with {_reservation(resources)} each did not "
                    f"fit within {wait_s:g} s",
                    "check the cluster's limits, or raise scaling.wait_s",
                )
            )
    finally:
        ray.util.remove_placement_group(group)


def _pass_on(reader: JournalReader, on_event: OnEvent) -> Event | None:
    """Hand new events on; return the one that ends the attempt, if it came."""
    end = None
    for event in reader.new_events():
        on_event(event)
        if event["kind"] in _ENDS:
            end = event
    return end


def _pass_on_until(reader: JournalReader, on_event: OnEvent, done: threading.Event) -> None:
    while not done.wait(_LOOK_EVERY_S):
        _pass_on(reader, on_event)
    _pass_on(reader, on_event)
