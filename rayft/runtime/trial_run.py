"""A unit of a sweep at work: a trial, the phases that trials share, or fused trials."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import torch

from rayft.engine.ports import Events, Json, OneRank
from rayft.errors import ClusterError, RayftError, Stopped
from rayft.models.weights import LoadedWeights
from rayft.plan.run_plan import RunPlan
from rayft.plan.trials import Ending, Unit
from rayft.runtime.allocator import keep_freed_memory
from rayft.runtime.attempt import make_attempt
from rayft.runtime.folder import RunFolder
from rayft.runtime.fork import fork
from rayft.runtime.job import Job, work
from rayft.runtime.journal import Event
from rayft.runtime.launch import train_on_ray, worker_environment
from rayft.runtime.preflight import Places
from rayft.runtime.sweep_folder import SweepFolder
from rayft.runtime.train import Silence
from rayft.runtime.trial_events import Stoppable, SweepStop, Tell, TrialEvents
from rayft.runtime.trial_fused import FusedRunner
from rayft.runtime.trial_outcome import finished_ending, steps_done, stopped_ending
from rayft.runtime.unit_work import Beginnings, Member, UnitWork


class UnitRunner:
    """Works on units, one after another, in one process.

    Args:
        folder: of the sweep.
        places: where its runs read.
    """

    def __init__(self, folder: SweepFolder, places: Places) -> None:
        self._folder = folder
        self._places = places
        self._beginnings = Beginnings(places)
        self._fused = FusedRunner(
            self._beginnings, store_root=places.store_root, stop_file=folder.stop_file
        )
        self.is_spoilt = False
        """Whether an error may have left the GPU of this process unusable."""
        keep_freed_memory()

    def steps_done(self, found: UnitWork) -> dict[int, int]:
        """Return for each trial the steps in the checkpoint that it goes on from."""
        return {
            trial: done
            for member in found.members
            for done in (steps_done(member.folder),)
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

        Raises:
            ClusterError: the cluster does not let its workers begin.
        """
        started = time.monotonic()
        endings: list[Ending] = []
        try:
            if found.unit.kind == "fused":
                return endings, self._fused.run(found, tell, over, endings)
            return self._one(found, tell, over, started)
        except ClusterError:
            # Not of the trial: the room that its workers waited for did not come, or their node
            # is not like the driver.
            raise
        except RayftError as error:
            reason = "; ".join(f"{problem.where}: {problem.what}" for problem in error.problems)
            self.is_spoilt = isinstance(error.__cause__, torch.OutOfMemoryError)
        except Exception as error:  # noqa: BLE001  the sweep goes on, and its table says why
            reason = f"{type(error).__name__}: {error}"
            self.is_spoilt = torch.cuda.is_available()
        known = over | {ending.trial for ending in endings}
        failed = [
            _failed(trial, member, reason, started, together=found.unit.kind == "fused")
            for member in found.members
            for trial in member.trials
            if trial not in known
        ]
        return [*endings, *failed], True

    def _one(
        self, found: UnitWork, tell: Tell, over: frozenset[int], started: float
    ) -> tuple[list[Ending], bool]:
        """Run a trial, or a stage, of which no trial ends unless it is stopped."""
        unit, (member,) = found.unit, found.members
        folder = member.folder
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
        with member.locked():
            folder.check_checkpoints(on_damaged=Silence().on_event)
            if unit.begins_from and not folder.has_checkpoints():
                stage = RunFolder(self._folder.stages, unit.begins_from)
                fork(stage, folder, plan, asked=plan.spec)
            beginning = self._beginnings.of(member)

            def run(job: Job) -> None:
                _train(job, beginning.weights, watch)

            make_attempt(
                plan,
                beginning,
                run,
                store_root=self._places.store_root,
                environment=worker_environment(owns_cluster=False) if _drives(plan) else None,
                listener=Silence(),
                stops_before=unit.stops_before,
            )


def _failed(trial: int, member: Member, reason: str, started: float, *, together: bool) -> Ending:
    """Return the ending of a trial whose unit failed; it may have finished before."""
    folder = member.folder
    if len(member.trials) == 1 and folder.result() is not None:
        return finished_ending(trial, folder, started)
    seconds = time.monotonic() - started
    return Ending(trial=trial, status="failed", reason=reason, seconds=seconds, together=together)


def _train(job: Job, weights: LoadedWeights | None, watch: Callable[[Events], Events]) -> None:
    """Train here, or with Ray Train workers where the trial has several."""
    if not _drives(job.plan):
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


def _drives(plan: RunPlan) -> bool:
    """Return whether a trial has workers beside its own process, which then reserves nothing.

    All that computes is then theirs, frozen layers too. What a trial starts is kept inside of its
    placement group, unless it says where it goes, as Ray Data's actors and Ray Train's workers do.
    """
    return plan.resources.num_workers > 1


class _AskToStop:
    """Stands for a journal that workers elsewhere write."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def emit(self, kind: str, values: Mapping[str, Json]) -> None:
        """Leave it: it has been written."""

    def stop_requested(self) -> bool:
        """Leave it to the sweep."""
        return False
