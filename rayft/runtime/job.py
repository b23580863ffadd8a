"""What the driver hands to every worker, and what a worker does with it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from rayft.data.stream import RayDataFeed
from rayft.engine.build import make_run
from rayft.engine.finish import Outcome, finish, finish_stage
from rayft.engine.loop import train
from rayft.engine.out_of_memory import out_of_memory_told
from rayft.engine.ports import Events, Json, Ranks
from rayft.engine.run import Ports, Run
from rayft.errors import RayftError, Stopped
from rayft.feed.feed import Feed, InProcessFeed
from rayft.feed.kept import Kept, KeptRef
from rayft.models.weights import LoadedWeights
from rayft.plan.run_plan import RunPlan
from rayft.plan.stage_keys import stage_plan
from rayft.runtime.folder import RunFolder
from rayft.runtime.journal import NoEvents, open_journal
from rayft.runtime.nodes import Versions, check_this_node
from rayft.storage.location import Location
from rayft.store.dataset import Dataset, DatasetRef, open_dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt at a run."""

    plan: RunPlan
    dataset: str
    """A `DatasetRef` as JSON."""
    kept: str
    """A `KeptRef` as JSON."""
    storage_path: str
    attempt: int
    versions: Versions
    """Those of the driver."""
    stops_before: int = 0
    """Of a stage: index of the first plain phase that it does not run. It ends there on all ranks,
    as a run does whose last phase is over, and is tested by none. 0 runs all phases."""

    @property
    def folder(self) -> RunFolder:
        """Return the folder of the run."""
        return RunFolder(Location(self.storage_path), self.plan.spec.name)


def work(
    job: Job,
    weights: LoadedWeights | None,
    *,
    ranks: Ranks,
    device: torch.device,
    watch: Callable[[Events], Events] = lambda events: events,
) -> dict[str, float]:
    """Train from wherever the run stands to its end; on rank 0 also write the result.

    A deliberate end, good or bad, is written to the journal first: the driver must not have the
    run restarted.

    Args:
        job: the attempt.
        weights: pretrained weights.
        ranks: the processes that share a step.
        device: where this one computes.
        watch: given the journal, returns what rank 0 hands its events to instead.
    """
    folder = job.folder
    if folder.over_file(job.attempt).exists():
        return {}
    events: Events = watch(journal_of(job)) if ranks.rank == 0 else NoEvents()
    try:
        if job.plan.resources.num_workers:
            check_node(job)
        with out_of_memory_told(job.plan):
            return _work(job, weights, ranks=ranks, device=device, events=events)
    except RayftError as error:
        end_attempt(job, error)
        raise


def check_node(job: Job) -> None:
    """Refuse a node that came after the others were asked and is not like them."""
    folder = job.folder
    check_this_node(
        job.versions,
        folder.place.parent,
        witness=folder.attempt_file,
        content=str(job.attempt).encode(),
    )


def journal_of(job: Job) -> Events:
    """Return where the attempt writes its events."""
    folder, attempt = job.folder, job.attempt
    return open_journal(folder.place, attempt=attempt, stop_file=folder.stop_file(attempt))


def end_attempt(job: Job, error: RayftError) -> None:
    """Mark the attempt as over and write why, once, whichever rank is first."""
    if not job.folder.over_file(job.attempt).create(b""):
        return
    problems: list[Json] = [[p.where, p.what, p.fix] for p in error.problems]
    kind = "stopped" if isinstance(error, Stopped) else "failed"
    journal_of(job).emit(kind, {"error": type(error).__name__, "problems": problems})


def _work(
    job: Job,
    weights: LoadedWeights | None,
    *,
    ranks: Ranks,
    device: torch.device,
    events: Events,
) -> dict[str, float]:
    # A stage ends as a run of fewer phases, so the loop need not know of it.
    plan, folder = stage_plan(job.plan, job.stops_before), job.folder
    started = time.monotonic()
    dataset = open_dataset(DatasetRef.from_json(job.dataset))
    run = make_run(
        plan,
        data_fingerprint=dataset.fingerprint,
        weights=weights,
        device=device,
        ports=Ports(
            feed=_make_feed(job, plan, dataset, rank=ranks.rank),
            ranks=ranks,
            events=events,
            checkpoints=folder.checkpoints(keep=plan.spec.checkpoint.keep, attempt=job.attempt),
        ),
    )
    train(run)
    outcome = finish_stage(run) if job.stops_before else finish(run)
    if ranks.rank == 0:
        write_outcome(job, run, outcome, seconds=time.monotonic() - started)
    return outcome.metrics


def write_outcome(job: Job, run: Run, outcome: Outcome, *, seconds: float) -> None:
    """Write the result of a run that has come to its end; from then on it is finished."""
    folder = job.folder
    result: dict[str, Json] = {
        "run": str(folder.place),
        "status": "finished",
        "checkpoint": str(folder.place / "checkpoints" / outcome.checkpoint),
        "metrics": dict(outcome.metrics),
        "phases": _phases(run, KeptRef.from_json(job.kept)),
        "throughput": {
            "rows_per_s": run.meter.total.rows_per_s,
            "data_wait_fraction": run.meter.total.wait_fraction,
        },
        "skipped_steps": run.policies.non_finite.num_skipped,
        "seconds": seconds,
    }
    if outcome.test_report:
        result["test"] = outcome.test_report.to_json()
    folder.write_result(result)
    run.events.emit("finished", {"metrics": dict(outcome.metrics)})


def _make_feed(job: Job, plan: RunPlan, dataset: Dataset, *, rank: int) -> Feed:
    kept = Kept(KeptRef.from_json(job.kept), dataset)
    if plan.ingest.kind == "ray_data":
        return RayDataFeed(plan, dataset, rank=rank, kept=kept)
    return InProcessFeed(plan, dataset, rank=rank, kept=kept)


def _phases(run: Run, kept: KeptRef) -> list[Json]:
    return [
        {
            "name": phase.name,
            "steps": phase.num_steps,
            "trainable_params": phase.ledger.trainable_params,
            "views": phase.prefix.views if phase.prefix else None,
            "kept": phase.index in kept.phases,
        }
        for phase in run.plan.phases
    ]
