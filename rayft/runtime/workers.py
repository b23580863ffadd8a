"""The workers of an attempt, as Ray Train starts them."""

import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import ray
import torch
from ray import PlacementGroupID
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)

from rayft.engine.ranks import DistributedRanks
from rayft.errors import RayftError
from rayft.models.weights import LoadedWeights
from rayft.runtime.job import Job, work
from rayft.runtime.packed import PackedWeights, packed, unpacked
from rayft.runtime.waiting import reservation

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer


_LEAVES_WITHIN_S = 10.0
_LEFT_WITHIN_S = 10.0
_LATE_S = 0.3


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
        self._run_id = ""
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the attempt to its end."""
        try:
            with tempfile.TemporaryDirectory(prefix="rayft-train-") as notes:
                trainer = self._make_trainer(notes)
                self._run_id = trainer.train_run_context.run_id
                trainer.fit()
        except BaseException as error:  # noqa: BLE001  raised by the thread that waits
            self.error = error

    def leave(self) -> None:
        """End the attempt's controller, wait for the thread, whose call then returns, and clean up.

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
        free_reservations()
        # What the controller asked for with its last breath arrives a little later.
        time.sleep(_LATE_S)
        free_reservations()
        _withdraw_request(self._run_id)

    def _make_trainer(self, notes: str) -> "TorchTrainer":
        from ray.train.torch import TorchTrainer

        plan = self._job.plan
        # Weights are resolved once, here, and travel once through the object store.
        weights = ray.put(packed(self._weights))
        config = {"job": self._job, "weights": weights, "is_left": self._owns_cluster}
        trainer = TorchTrainer(
            _ray_worker,
            train_loop_config=config,
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


def free_reservations() -> None:
    """Remove the placement groups of this driver's job that are still there.

    Ray frees those that it knows when their controller dies, and keeps for ever one that it comes
    to know afterwards (Ray 2.60).
    """
    mine = ray.get_runtime_context().get_job_id()
    for group, facts in placement_group_table().items():
        # The last bytes of its id are those of the job.
        if group.endswith(mine) and facts["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))


def _withdraw_request(run_id: str) -> None:
    """Let an autoscaler take the nodes back that Ray Train had asked for.

    A controller that ends in order does so itself; otherwise they are held for three more minutes.
    """
    with suppress(ValueError, RayError):  # Nothing asked for nodes; it expires in any case.
        coordinator = ray.get_actor("AutoscalingCoordinator", namespace="AutoscalingCoordinator")
        withdrawn = coordinator.cancel_request.remote(requester_id=f"train-{run_id}")
        ray.get(withdrawn, timeout=_LEAVES_WITHIN_S)


def _without_cleaner(trainer: "TorchTrainer") -> None:
    """Let a run leave nothing behind when its driver leaves, or is killed.

    Ray Train gives each run a detached actor, to free its placement group if the controller dies.
    The driver, or Ray once the driver is gone, frees the group. The actor, which should end then,
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
    try:
        metrics = work(job, weights, ranks=DistributedRanks(device), device=device)
    except RayftError:
        if config["is_left"]:
            # The driver reads why in the journal, and leaves, which ends this process. Were the
            # controller first to hear, it would begin to start the workers again.
            time.sleep(_LEFT_WITHIN_S)
        raise
    ray.train.report(metrics)
