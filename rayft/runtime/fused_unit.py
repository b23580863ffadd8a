"""What an actor does with runs that train fused: each ends in a folder of its own, as if alone."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from rayft.engine.finish import Outcome
from rayft.engine.fused import OnEpoch, train_fused
from rayft.engine.fused_build import make_fused_runs
from rayft.engine.fused_finish import best_metrics, finish_fused
from rayft.engine.member import Member
from rayft.engine.ports import Events, OneRank
from rayft.engine.run import Ports, Run
from rayft.errors import CheckpointError, Problem, RayftError, Stopped
from rayft.feed.feed import InProcessFeed
from rayft.feed.kept import Kept, KeptRef
from rayft.models.weights import LoadedWeights
from rayft.plan.trials import Ending
from rayft.runtime.job import Job, check_node, end_attempt, write_outcome
from rayft.store.dataset import Dataset, DatasetRef, open_dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedJob:
    """One attempt at a run that trains with others."""

    trial: int
    job: Job
    events: Events
    """Where the run's events go."""


def work_fused(
    jobs: Sequence[FusedJob],
    weights: LoadedWeights | None,
    *,
    device: torch.device,
    on_epoch: OnEpoch,
) -> Iterator[Ending]:
    """Train runs of equal keys together from wherever each stands; yield what becomes of each.

    A run ends as soon as it is stopped by the scheduler, or cannot go on; its folder then says so.

    Args:
        jobs: the runs, whose plans have equal keys (`rayft.plan.fusing`).
        weights: pretrained weights, unless every run has a checkpoint or begins from random ones.
        device: where to train.
        on_epoch: called with what members report at the end of an epoch; returns the trials that
            are to stop there.

    Raises:
        Stopped: one of the runs was asked to save and stop; all that have steps left are saved.
        RayftError: none of them can go on.
    """
    waiting = {each.trial: each for each in jobs}
    started = time.monotonic()
    try:
        if jobs[0].job.plan.resources.num_workers:
            check_node(jobs[0].job)
        members: list[Member] = []
        for each, run in zip(jobs, _runs(jobs, weights, device), strict=True):
            if isinstance(run, Run):
                members.append(Member(trial=each.trial, run=run))
            else:
                yield _failed(waiting.pop(each.trial), run)
        for ended in train_fused(members, on_epoch=on_epoch):
            for member, end in _ends(ended):
                seconds = time.monotonic() - started
                ending = _ending(waiting[member.trial].job, member, end, seconds=seconds)
                del waiting[member.trial]
                yield ending
    except RayftError as error:
        for each in waiting.values():
            end_attempt(each.job, error)
        raise


def _runs(
    jobs: Sequence[FusedJob], weights: LoadedWeights | None, device: torch.device
) -> list[Run | CheckpointError]:
    dataset = open_dataset(DatasetRef.from_json(jobs[0].job.dataset))
    feeds: dict[int, InProcessFeed] = {}
    for each in jobs:
        seed = each.job.plan.spec.seed
        feeds[seed] = feeds.get(seed) or _feed(each.job, dataset)
    return make_fused_runs(
        [each.job.plan for each in jobs],
        data_fingerprint=dataset.fingerprint,
        weights=weights,
        device=device,
        ports=[_ports(each, feeds[each.job.plan.spec.seed]) for each in jobs],
    )


def _feed(job: Job, dataset: Dataset) -> InProcessFeed:
    # In any case in this process: features are read, not made.
    return InProcessFeed(job.plan, dataset, rank=0, kept=Kept(KeptRef.from_json(job.kept), dataset))


def _ports(each: FusedJob, feed: InProcessFeed) -> Ports:
    job = each.job
    keep = job.plan.spec.checkpoint.keep
    return Ports(
        feed=feed,
        ranks=OneRank(),
        events=each.events,
        checkpoints=job.folder.checkpoints(keep=keep, attempt=job.attempt),
    )


def _ends(ended: Sequence[Member]) -> Iterator[tuple[Member, Outcome | RayftError]]:
    """Yield what each member that ended has come to; all that are finished are tested at once."""
    finished = [member for member in ended if not member.is_stopped and member.error is None]
    if finished:
        yield from zip(finished, finish_fused(finished), strict=True)
    for member in ended:
        if member.error is not None:
            yield member, member.error
        elif member.is_stopped:
            yield member, _stopped_early(member)


def _stopped_early(member: Member) -> Stopped:
    return Stopped(
        Problem(
            member.run.plan.spec.name,
            f"stopped by the sweep's scheduler after step {member.run.position.steps_done:,}",
            "nothing; other trials did better at the same point",
        )
    )


def _ending(job: Job, member: Member, end: Outcome | RayftError, *, seconds: float) -> Ending:
    """Write how a run ended where its folder says so, and return it."""
    if isinstance(end, Outcome):
        write_outcome(job, member.run, end, seconds=seconds)
        return Ending(
            trial=member.trial,
            status="finished",
            metrics=end.metrics,
            checkpoint=_checkpoint(job, member),
            seconds=seconds,
        )
    end_attempt(job, end)
    return Ending(
        trial=member.trial,
        status="stopped" if isinstance(end, Stopped) else "failed",
        metrics=best_metrics(member),
        checkpoint=_checkpoint(job, member),
        reason=end.problems[0].what,
        seconds=seconds,
    )


def _failed(each: FusedJob, error: RayftError) -> Ending:
    """Return the ending of a run that cannot be taken up."""
    end_attempt(each.job, error)
    return Ending(trial=each.trial, status="failed", reason=error.problems[0].what)


def _checkpoint(job: Job, member: Member) -> str:
    name = member.run.policies.best.name
    return str(job.folder.place / "checkpoints" / name) if name else ""
