"""A unit of a sweep at work: a trial, the phases that trials share, or fused trials."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass

import torch

from rayft.engine.ports import Events, Json, OneRank
from rayft.errors import RayftError, Stopped
from rayft.feed.kept import KeptRef
from rayft.models.weights import LoadedWeights
from rayft.plan.run_plan import RunPlan
from rayft.plan.trials import Ending, Unit
from rayft.runtime.allocator import keep_freed_memory
from rayft.runtime.attempt import make_attempt, new_job
from rayft.runtime.beginning import Beginning
from rayft.runtime.folder import RunFolder
from rayft.runtime.fork import fork
from rayft.runtime.fused_unit import FusedJob, work_fused
from rayft.runtime.job import Job, journal_of, work
from rayft.runtime.journal import Event
from rayft.runtime.keep import keeping
from rayft.runtime.launch import train_on_ray
from rayft.runtime.preflight import Places, resolve
from rayft.runtime.sweep_folder import SweepFolder
from rayft.runtime.trial_events import Stoppable, SweepStop, Tell, TrialEvents
from rayft.runtime.trial_outcome import (
    finished_ending,
    steps_done,
    stopped_ending,
)
from rayft.storage.location import Location
from rayft.store.dataset import DatasetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A run of a unit."""

    trials: tuple[int, ...]
    """Trials that it stands for: one, or those that share a stage."""
    plan: RunPlan
    """Its spec names its folder."""
    dataset: DatasetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitWork:
    """All that an actor needs to know of a unit."""

    unit: Unit
    members: tuple[Member, ...]
    """One run, or those that train fused."""


class Quiet:
    """Hears of what a trial keeps, and tells nobody: the sweep tells of trials."""

    def on_stage(self, text: str) -> None:
        """Say nothing."""

    def on_rows(self, done: int, total: int) -> None:
        """Say nothing."""

    def on_event(self, event: Event) -> None:
        """Say nothing."""


class UnitRunner:
    """Works on units, one after another, in one process.

    Args:
        folder: of the sweep.
        places: where its runs read.
    """

    def __init__(self, folder: SweepFolder, places: Places) -> None:
        self._folder = folder
        self._places = places
        self._weights: dict[str, LoadedWeights | None] = {}
        keep_freed_memory()

    def steps_done(self, found: UnitWork) -> dict[int, int]:
        """Return for each trial the steps in the checkpoint that it goes on from."""
        return {
            trial: done
            for member in found.members
            for done in (steps_done(_folder_of(member)),)
            for trial in member.trials
        }

    def run(self, found: UnitWork, tell: Tell, over: frozenset[int]) -> tuple[list[Ending], bool]:
        """Work on a unit.

        Args:
            found: the unit.
            tell: reports to the sweep.
            over: trials that go no further than their checkpoint.

        Returns:
            What became of the trials that have ended, and whether the unit is over: one that was
            asked to save and stop together with its whole sweep is not.
        """
        started = time.monotonic()
        left = [trial for trial in found.unit.trials if trial not in over]
        try:
            if found.unit.kind == "fused":
                return self._fused(found, tell, over, started)
            return self._one(found, tell, over, started)
        except RayftError as error:
            reason = "; ".join(f"{problem.where}: {problem.what}" for problem in error.problems)
        except Exception as error:  # noqa: BLE001  the sweep goes on, and its table says why
            reason = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - started
        failed = [
            Ending(trial=trial, status="failed", reason=reason, seconds=seconds) for trial in left
        ]
        return failed, True

    def _one(
        self, found: UnitWork, tell: Tell, over: frozenset[int], started: float
    ) -> tuple[list[Ending], bool]:
        """Run a trial, or a stage, of which no trial ends unless it is stopped."""
        unit, (member,) = found.unit, found.members
        folder = _folder_of(member)
        stop = SweepStop(self._folder.stop_file)
        events: list[TrialEvents] = []

        def watch(inner: Events) -> Events:
            heard = Stoppable(inner, stop)
            events.append(TrialEvents(heard, trials=member.trials, tell=tell))
            return events[-1]

        if folder.result() is None and not over >= set(member.trials):
            # At the end of a stage, by the sweep's rule, or together with the whole sweep.
            with suppress(Stopped):
                self._attempt(unit, member, folder, watch)
        if unit.kind == "lone" and folder.result() is not None:
            return [finished_ending(member.trials[0], folder, started)], True
        stopped = over.union(*(each.stopped for each in events))
        endings = [stopped_ending(trial, folder, started) for trial in sorted(stopped)]
        return endings, stopped >= set(member.trials) or folder.result() is not None

    def _attempt(
        self,
        unit: Unit,
        member: Member,
        folder: RunFolder,
        watch: Callable[[Events], Events],
    ) -> None:
        plan = member.plan
        with folder.locked():
            folder.check_checkpoints(on_damaged=Quiet().on_event)
            if unit.begins_from and not folder.has_checkpoints():
                stage = RunFolder(self._folder.stages, unit.begins_from)
                fork(stage, folder, plan, asked=plan.spec)
            beginning = self._beginning(member, folder)

            def run(job: Job) -> None:
                _train(job, beginning.weights, watch)

            make_attempt(
                plan,
                beginning,
                run,
                store_root=self._places.store_root,
                environment=None,
                listener=Quiet(),
                stops_before=unit.stops_before,
            )

    def _fused(
        self, found: UnitWork, tell: Tell, over: frozenset[int], started: float
    ) -> tuple[list[Ending], bool]:
        """Train members as one model; each has its own folder, as a trial alone has."""
        endings, members = [], []
        for member in found.members:
            (trial,), folder = member.trials, _folder_of(member)
            if folder.result() is not None:
                endings.append(finished_ending(trial, folder, started))
            elif trial in over:
                endings.append(stopped_ending(trial, folder, started))
            else:
                members.append(member)
        if members:
            with self._fused_jobs(members) as jobs, suppress(Stopped):
                # All of the sweep may be asked to stop; members that ended before have ended.
                endings += self._ends_of(jobs, members, tell)
        return endings, len(endings) == len(found.members)

    def _ends_of(
        self, jobs: Sequence[FusedJob], members: Sequence[Member], tell: Tell
    ) -> Iterator[Ending]:
        beginning = members[0].plan
        weights = self._weights_of(beginning) if self._needs_weights(members) else None
        device = torch.device(beginning.resources.device)
        return work_fused(jobs, weights, device=device, on_epoch=tell)

    def _needs_weights(self, members: Sequence[Member]) -> bool:
        return not all(_folder_of(member).has_checkpoints() for member in members)

    @contextmanager
    def _fused_jobs(self, members: Sequence[Member]) -> Iterator[list[FusedJob]]:
        """Give an attempt at the run of each member."""
        stop = SweepStop(self._folder.stop_file)
        with ExitStack() as stack:
            beginnings = []
            for member in members:
                folder = _folder_of(member)
                stack.enter_context(folder.locked())
                folder.check_checkpoints(on_damaged=Quiet().on_event)
                beginnings.append(self._beginning(member, folder))
            kept = {
                seed: stack.enter_context(self._kept(*group))
                for seed, group in _by_seed(members, beginnings).items()
            }
            jobs = [
                (member, new_job(member.plan, one, kept=kept[member.plan.spec.seed]))
                for member, one in zip(members, beginnings, strict=True)
            ]
            yield [
                FusedJob(trial=member.trials[0], job=job, events=Stoppable(journal_of(job), stop))
                for member, job in jobs
            ]

    def _kept(self, member: Member, beginning: Beginning) -> AbstractContextManager[KeptRef]:
        return keeping(
            member.plan,
            beginning,
            store_root=self._places.store_root,
            environment=None,
            listener=Quiet(),
        )

    def _beginning(self, member: Member, folder: RunFolder) -> Beginning:
        resumes = folder.has_checkpoints()
        weights = None if resumes else self._weights_of(member.plan)
        folder.begin(member.plan.spec, member.plan)
        return Beginning(dataset=member.dataset, weights=weights, folder=folder)

    def _weights_of(self, plan: RunPlan) -> LoadedWeights | None:
        """Return pretrained weights, read once for all trials that begin from them."""
        key = repr((plan.spec.model.model_dump_json(by_alias=True), plan.model.image_size))
        if key not in self._weights:
            self._weights[key] = resolve(plan.spec, self._places, plan)
        return self._weights[key]


def _by_seed(
    members: Sequence[Member], beginnings: Sequence[Beginning]
) -> dict[int, tuple[Member, Beginning]]:
    """Return the first of the members that see the same views of the same rows."""
    found: dict[int, tuple[Member, Beginning]] = {}
    for member, beginning in zip(members, beginnings, strict=True):
        found.setdefault(member.plan.spec.seed, (member, beginning))
    return found


def _folder_of(member: Member) -> RunFolder:
    spec = member.plan.spec
    return RunFolder(Location(spec.storage_path), spec.name)


def _train(job: Job, weights: LoadedWeights | None, watch: Callable[[Events], Events]) -> None:
    """Train here, or with Ray Train workers where the trial has several."""
    if job.plan.resources.num_workers <= 1:
        work(
            job,
            weights,
            ranks=OneRank(),
            device=torch.device(job.plan.resources.device),
            watch=watch,
        )
        return
    heard = watch(_AskToStop(job))

    def on_event(event: Event) -> None:
        heard.emit(str(event["kind"]), event)
        if heard.stop_requested():
            job.folder.stop_file(job.attempt).create(b"sweep")

    train_on_ray(job, weights, on_event, owns_cluster=False)


class _AskToStop:
    """Stands for a journal that workers elsewhere write."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Leave it: it has been written."""

    def stop_requested(self) -> bool:
        """Leave it to the sweep."""
        return False
