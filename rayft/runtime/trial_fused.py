"""A fused unit of a sweep at work: several trials as one model, each in a folder of its own."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import torch

from rayft.errors import Stopped
from rayft.feed.kept import KeptRef
from rayft.plan.trials import Ending
from rayft.runtime.attempt import new_job
from rayft.runtime.beginning import Beginning
from rayft.runtime.fused_unit import FusedJob, work_fused
from rayft.runtime.job import journal_of
from rayft.runtime.keep import keeping
from rayft.runtime.train import Silence
from rayft.runtime.trial_events import Stoppable, SweepStop, Tell
from rayft.runtime.trial_outcome import finished_ending, stopped_ending
from rayft.runtime.unit_work import Beginnings, Member, UnitWork
from rayft.storage.location import Location


class FusedRunner:
    """Trains the members of a unit together.

    Args:
        beginnings: what runs begin from.
        store_root: the folder of all stores.
        stop_file: asks all of the sweep to save and stop.
    """

    def __init__(
        self, beginnings: Beginnings, *, store_root: Location, stop_file: Location
    ) -> None:
        self._beginnings = beginnings
        self._store_root = store_root
        self._stop_file = stop_file

    def run(self, found: UnitWork, tell: Tell, over: frozenset[int], endings: list[Ending]) -> bool:
        """Work on a unit; return whether it is over.

        Args:
            found: the unit.
            tell: reports to the sweep.
            over: trials that go no further than their checkpoint.
            endings: takes what becomes of trials, as it does.
        """
        started, members = time.monotonic(), []
        for member in found.members:
            (trial,), folder = member.trials, member.folder
            if folder.result() is not None:
                endings.append(finished_ending(trial, folder, started))
            elif trial in over:
                endings.append(stopped_ending(trial, folder, started))
            else:
                members.append(member)
        if members:
            with self._fused_jobs(members) as jobs, suppress(Stopped):
                # All of the sweep may be asked to stop; members that ended before have ended.
                endings.extend(self._ends_of(jobs, members, tell))
        return len(endings) == len(found.members)

    def _ends_of(
        self, jobs: Sequence[FusedJob], members: Sequence[Member], tell: Tell
    ) -> Iterator[Ending]:
        plan = members[0].plan
        have_begun = all(member.folder.has_checkpoints() for member in members)
        weights = None if have_begun else self._beginnings.weights_of(plan)
        device = torch.device(plan.resources.device)
        return work_fused(jobs, weights, device=device, on_epoch=tell)

    @contextmanager
    def _fused_jobs(self, members: Sequence[Member]) -> Iterator[list[FusedJob]]:
        """Give an attempt at the run of each member."""
        stop = SweepStop(self._stop_file)
        with ExitStack() as stack:
            beginnings = []
            for member in members:
                stack.enter_context(member.locked())
                member.folder.check_checkpoints(on_damaged=Silence().on_event)
                beginnings.append(self._beginnings.of(member))
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
            store_root=self._store_root,
            environment=None,
            listener=Silence(),
        )


def _by_seed(
    members: Sequence[Member], beginnings: Sequence[Beginning]
) -> dict[int, tuple[Member, Beginning]]:
    """Return the first of the members that see the same views of the same rows."""
    found: dict[int, tuple[Member, Beginning]] = {}
    for member, beginning in zip(members, beginnings, strict=True):
        found.setdefault(member.plan.spec.seed, (member, beginning))
    return found
