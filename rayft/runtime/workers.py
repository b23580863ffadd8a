"""The workers of an attempt, as Ray Train starts them."""

import tempfile
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig

from rayft.engine.ranks import DistributedRanks
from rayft.models.weights import LoadedWeights
from rayft.runtime.job import Job, work
from rayft.runtime.packed import PackedWeights, packed, unpacked
from rayft.runtime.waiting import reservation

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer


_LEAVES_WITHIN_S = 10.0


class Fit(threading.Thread):
    """`TorchTrainer.fit` in a thread, so that the main thread is free for signals.

    Args:
        job: the attempt.
        weights: pretrained weights.
        environment: variables that the workers need beside those of the cluster.
        owns_cluster: whether the driver disconnects from Ray when the attempt is over.
    """

    def __init__(
        self,
        job: Job,
        weights: LoadedWeights | None,
        *,
        environment: Mapping[str, str],
        owns_cluster: bool,
    ) -> None:
        super().__init__(name="rayft-fit", daemon=True)
        self._job = job
        self._weights = weights
        self._environment = dict(environment)
        self._owns_cluster = owns_cluster
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the attempt to its end."""
        try:
            with tempfile.TemporaryDirectory(prefix="rayft-train-") as notes:
                self._make_trainer(notes).fit()
        except BaseException as error:  # noqa: BLE001  raised by the thread that waits
            self.error = error

    def leave(self) -> None:
        """End the attempt's controller, and wait for the thread, whose call then returns.

        Ray crashes where the driver disconnects while a thread waits in it.
        """
        mine = ray.get_runtime_context().get_job_id()
        # No public call gives the controller that `fit` starts (Ray 2.60).
        for actor, facts in ray._private.state.state.actor_table(None).items():
            if facts["ActorClassName"] == "TrainController" and facts["JobID"] == mine:
                ray._private.worker.global_worker.core_worker.kill_actor(
                    ray.ActorID(bytes.fromhex(actor)), True
                )
        self.join(_LEAVES_WITHIN_S)

    def _make_trainer(self, notes: str) -> "TorchTrainer":
        from ray.train.torch import TorchTrainer

        plan = self._job.plan
        # Weights are resolved once, here, and travel once through the object store.
        weights = ray.put(packed(self._weights))
        trainer = TorchTrainer(
            _ray_worker,
            train_loop_config={"job": self._job, "weights": weights},
            scaling_config=ScalingConfig(
                num_workers=plan.resources.num_workers,
                use_gpu=plan.resources.device == "cuda",
                resources_per_worker=reservation(plan.resources),
            ),
            run_config=RunConfig(
                # A name of its own for each attempt: Ray's index of an earlier one, which is not
                # crash-safe, can then never be in the way.
                name=f"attempt-{self._job.attempt:04d}",
                # Ray keeps notes of its own here; what a run needs is in its folder.
                storage_path=notes,
                failure_config=FailureConfig(max_failures=plan.spec.scaling.max_failures),
                worker_runtime_env={"env_vars": self._environment} if self._environment else None,
            ),
        )
        if self._owns_cluster:
            _without_cleaner(trainer)
        return trainer


def _without_cleaner(trainer: "TorchTrainer") -> None:
    """Let a run leave nothing behind when its driver leaves, or is killed.

    Ray Train gives each run a detached actor, to free its placement group if the controller dies.
    Ray frees the group by itself once the driver is gone, and the actor, which should end then,
    stays for ever (Ray 2.60): it calls `exit_actor` in a thread, which ends that thread alone.
    """
    make_all = trainer._create_default_callbacks

    def make() -> list[object]:
        return [c for c in make_all() if type(c).__name__ != "PlacementGroupCleanerCallback"]

    trainer._create_default_callbacks = make


def _ray_worker(config: dict[str, object]) -> None:
    import ray.train.torch

    job = cast(Job, config["job"])
    weights = unpacked(ray.get(cast("ray.ObjectRef[PackedWeights | None]", config["weights"])))
    device = ray.train.torch.get_device()
    if job.plan.resources.device == "mps":
        device = torch.device("mps")
    metrics = work(job, weights, ranks=DistributedRanks(device), device=device)
    ray.train.report(metrics)
