"""`rayft train`: from a spec to a trained model, from wherever the run stands."""

import time
from contextlib import ExitStack
from typing import Protocol

import ray

from rayft.data.prepare import PreparedDataset
from rayft.engine.ports import Json
from rayft.plan.run_plan import RunPlan
from rayft.runtime.attempt import make_attempt
from rayft.runtime.beginning import Beginning
from rayft.runtime.folder import RunFolder
from rayft.runtime.job import Job
from rayft.runtime.journal import Event
from rayft.runtime.kept_already import plan_with_kept
from rayft.runtime.launch import (
    connect_if_told,
    start_ray,
    train_here,
    train_on_ray,
    worker_environment,
)
from rayft.runtime.nodes import check_nodes
from rayft.runtime.preflight import (
    Places,
    check,
    places_of,
    plan_prepared,
    prepare_rows,
    resolve,
)
from rayft.runtime.signals import stop_request
from rayft.runtime.waiting import wait_for_room
from rayft.spec.run import RunSpec
from rayft.storage.location import Location


class Listener(Protocol):
    """Hears what a run is doing, on the driver."""

    def on_stage(self, text: str) -> None:
        """Something that takes a while begins."""
        ...

    def on_rows(self, done: int, total: int) -> None:
        """Rows of the dataset were prepared."""
        ...

    def on_plan(self, plan: RunPlan) -> None:
        """The plan is exact; training begins."""
        ...

    def on_event(self, event: Event) -> None:
        """A worker wrote an event to the journal."""
        ...


class Silence:
    """A listener for scripts that only want the result."""

    def on_stage(self, text: str) -> None:
        """Say nothing."""

    def on_rows(self, done: int, total: int) -> None:
        """Say nothing."""

    def on_plan(self, plan: RunPlan) -> None:
        """Say nothing."""

    def on_event(self, event: Event) -> None:
        """Say nothing."""


def train(spec: RunSpec, *, listener: Listener | None = None) -> dict[str, Json]:
    """Run a spec to its end and return its result.

    A run that was interrupted goes on; one that is finished returns its result at once.

    Returns:
        `run` (folder), `status`, `checkpoint`, `metrics`, `phases`, `throughput`, `seconds`, and
        with a test split `test` (the full report).

    Raises:
        RequestError: the request cannot be honoured; nothing was started.
        TrainingError: the run was started and cannot go on.
        Stopped: a signal asked the run to save and stop.
    """
    listener = listener or Silence()
    started = time.monotonic()
    places = places_of(spec)
    folder = RunFolder(places.storage_path, spec.name)
    folder.check_same(spec)
    if (result := folder.result()) is not None:
        return {**result, "status": "already finished"}
    asked, spec = spec, folder.pinned(spec)
    uses_ray = spec.scaling.num_workers > 0
    listener.on_stage("checking")
    with ExitStack() as stack:
        # A cluster that is named is asked what it has; one of our own is started once nothing is
        # left to refuse.
        owns_cluster = uses_ray and connect_if_told()
        if owns_cluster:
            stack.callback(ray.shutdown)
        plan = check(spec, places)
        # A checkpoint is enough by itself: what the run was begun from may be gone by now.
        resumes = folder.has_checkpoints()
        weights = None if resumes else resolve(spec, places, plan)
        if weights is not None:
            notes: list[Json] = [*weights.notes]
            listener.on_event({"kind": "weights", "source": weights.source, "notes": notes})
        stack.enter_context(folder.locked())
        folder.check_checkpoints(on_damaged=listener.on_event)
        if uses_ray and not ray.is_initialized():
            listener.on_stage("starting Ray")
            owns_cluster = start_ray()
        if owns_cluster:
            # Before the lock is let go: the workers must be gone when another process goes on.
            stack.callback(ray.shutdown)
        if uses_ray:
            check_nodes(places.storage_path)
        prepared = _prepare(spec, places, listener)
        plan = _plan(spec, places, prepared, plan, listener)
        beginning = Beginning(dataset=prepared.ref, weights=weights, folder=folder)
        plan = plan_with_kept(plan, beginning, store_root=places.store_root)
        folder.begin(asked, plan)
        listener.on_plan(plan)
        _run(plan, beginning, places.store_root, listener, owns_cluster=owns_cluster)
        result = folder.result()
        assert result is not None
        result["seconds"] = time.monotonic() - started
        folder.write_result(result)
    return result


def _prepare(spec: RunSpec, places: Places, listener: Listener) -> PreparedDataset:
    listener.on_stage("preparing rows")
    use_ray = spec.scaling.num_workers > 0
    return prepare_rows(spec, places, use_ray=use_ray, on_rows=listener.on_rows)


def _plan(
    spec: RunSpec,
    places: Places,
    prepared: PreparedDataset,
    before: RunPlan,
    listener: Listener,
) -> RunPlan:
    """Plan on the prepared rows, and on the nodes that must come first.

    Until they are there nothing is known of their GPUs: what these compute in, and how many rows
    they hold at once, which a run that goes on keeps.
    """
    if not before.resources.must_wait:
        return plan_prepared(spec, places, prepared, speeds=before.speeds)
    listener.on_stage("; ".join(before.resources.warnings))
    with stop_request() as request:
        wait_for_room(before.resources, wait_s=spec.scaling.wait_s, request=request)
    check_nodes(places.storage_path)
    return plan_prepared(spec, places, prepared)


def _run(
    plan: RunPlan,
    beginning: Beginning,
    store_root: Location,
    listener: Listener,
    *,
    owns_cluster: bool,
) -> None:
    """Make one attempt at what is left of the run."""
    uses_ray = plan.resources.num_workers > 0

    def run(job: Job) -> None:
        listener.on_stage("starting workers" if uses_ray else "training")
        if uses_ray:
            train_on_ray(job, beginning.weights, listener.on_event, owns_cluster=owns_cluster)
        else:
            train_here(job, beginning.weights, listener.on_event)

    make_attempt(
        plan,
        beginning,
        run,
        store_root=store_root,
        environment=worker_environment(owns_cluster=owns_cluster) if uses_ray else None,
        listener=listener,
    )
