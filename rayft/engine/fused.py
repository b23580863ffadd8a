"""Train several runs as one batched model, each as if it were alone.

Members take the same steps of the same phases, from features that are made or read once for all of
them. Those that stand behind, after a resume, go first until they reach the next; one whose phase
ended early waits where it ended. A member that is stopped or cannot go on leaves the others alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import final

import torch
from torch import Tensor

from rayft.engine.epoch import ends_epoch, report_progress, reports_loss, stopped, take_metrics
from rayft.engine.evaluation import finite
from rayft.engine.fused_evaluation import evaluate_members
from rayft.engine.fused_step import fused_step
from rayft.engine.member import Member
from rayft.engine.meter import Losses, Meter
from rayft.engine.stack import Stack
from rayft.errors import Stopped, TrainingError
from rayft.feed.prepare import Batch
from rayft.metrics import ClassificationReport
from rayft.optim.modes import set_training_modes
from rayft.plan.trials import Report

OnEpoch = Callable[[Sequence[Report]], frozenset[int]]
"""Takes what members report at the end of an epoch; returns the trials that are to stop there."""
Shards = Mapping[int, tuple[Batch, ...]]
"""The batches of a step, by seed."""


def train_fused(members: Sequence[Member], *, on_epoch: OnEpoch) -> Iterator[list[Member]]:
    """Run every phase that is left, and yield members as they end, with all of their state saved.

    Args:
        members: runs of equal keys (`rayft.plan.fusing`) around one backbone; those of one seed
            share their feed.
        on_epoch: called once for the members that end an epoch together.

    Raises:
        Stopped: a member was asked to save and stop, which goes for all; they are saved.
    """
    if not members:
        return
    training = _Training(members, on_epoch)
    # A run that had ended its last phase when it was killed has no step left.
    ended = [member for member in members if not member.is_live]
    if ended:
        yield ended
    while live := [member for member in members if member.is_live]:
        training.go_on(live)
        ended = [member for member in live if not member.is_live]
        for member in ended:
            _save_last(member)
        if ended:
            yield ended
        if training.stopped is not None:
            raise training.stopped


def _save_last(member: Member) -> None:
    """Save a member that ended; one that failed keeps its best state, as it had it before."""
    if member.error is None:
        member.save()
    else:
        member.save_best()


@final
class _Training:
    def __init__(self, members: Sequence[Member], on_epoch: OnEpoch) -> None:
        self._members = members
        self._on_epoch = on_epoch
        self._clock = members[0].run.clock
        self._interval_s = members[0].run.plan.spec.checkpoint.interval_s
        self._last_save = self._clock()
        self.stopped: Stopped | None = None
        """Set once a member was asked to stop, and all that have steps left are saved."""
        self._meter = Meter(self._clock)
        for member in members:
            member.run.meter = self._meter

    def go_on(self, live: Sequence[Member]) -> None:
        """Train the members that stand furthest behind until others stand where they do."""
        together, until = _furthest_behind(live)
        for member in together:
            member.enter_phase()
        stack, losses = Stack(together), _Losses()
        run = stack.members[0].run
        phase, step = run.position.phase, run.position.step
        # Of one for all: the backbone is theirs together, and a stack has no modes.
        set_training_modes(run.model, stack.phases[0].ledger, batch_norm=run.plan.spec.batch_norm)
        with _batches(stack, start_step=step) as steps:
            for batches in self._meter.steps(steps):
                result = fused_step(stack, batches)
                self._meter.step_done(result.num_rows)
                losses.add(result.loss_sum, result.num_rows)
                for member in stack.members:
                    if member.error is None:
                        member.run.position = member.run.position.after_step(member.run.plan)
                self._after_step(stack, step, losses)
                step += 1
                if step == until or self.stopped or not all(map(_is_within(phase), stack.members)):
                    break
        losses.hand_over(stack.members)

    def _after_step(self, stack: Stack, step: int, losses: "_Losses") -> None:
        run, phase = stack.members[0].run, stack.phases[0]
        going = sorted(
            (member for member in stack.members if member.error is None),
            key=lambda member: member.trial,
        )
        if reports_loss(run, step):
            losses.hand_over(stack.members)
            for member in going:
                its_phase = member.run.plan.phases[phase.index]
                loss = member.losses.reduce(member.run.ranks)
                report_progress(member.run, its_phase, step, loss)
        if ends_epoch(run, phase, step):
            losses.hand_over(stack.members)
            self._end_epoch(going, phase.index, step)
        self._save_where_due()

    def _end_epoch(self, members: Sequence[Member], phase: int, step: int) -> None:
        """Evaluate, decide, report, and stop those that are to stop."""
        reports: list[Report] = []
        for member, found in zip(members, _validated(members), strict=True):
            if isinstance(found, TrainingError):
                member.error = found
            else:
                reports.append(_end_epoch_of(member, phase, step, found))
        stops = self._on_epoch(reports) if reports else frozenset()
        for member in members:
            if member.trial in stops and member.is_live:
                member.is_stopped = True

    def _save_where_due(self) -> None:
        """Save all that have steps left, where it is time or one of them is asked to stop."""
        live = [member for member in self._members if member.is_live]
        stop = any(member.run.events.stop_requested() for member in live)
        if not stop and self._clock() - self._last_save < self._interval_s:
            return
        for member in live:
            member.save()
        if stop:
            self.stopped = stopped(live[0].run)
        self._last_save = self._clock()


def _furthest_behind(live: Sequence[Member]) -> tuple[list[Member], int]:
    """Return the members to train now, and the step of the phase at which others join them."""
    places = [(member.run.position.phase, member.run.position.step) for member in live]
    phase, step = min(places)
    together = [m for m, place in zip(live, places, strict=True) if place == (phase, step)]
    later = [place[1] for place in places if place[0] == phase and place[1] > step]
    return together, min(later, default=-1)


def _is_within(phase: int) -> Callable[[Member], bool]:
    return lambda member: member.is_live and member.run.position.phase == phase


@contextmanager
def _batches(stack: Stack, *, start_step: int) -> Iterator[Iterator[Shards]]:
    """Open one stream for each seed; they go in step."""
    feeds = {
        member.run.plan.spec.seed: (member.run.feed, phase)
        for member, phase in zip(stack.members, stack.phases, strict=True)
    }
    with ExitStack() as opened:
        streams = [
            opened.enter_context(feed.training(phase, start_step=start_step))
            for feed, phase in feeds.values()
        ]
        yield (dict(zip(feeds, shards, strict=True)) for shards in zip(*streams, strict=True))


def _validated(
    members: Sequence[Member],
) -> Sequence[ClassificationReport | TrainingError | None]:
    if not members or "validation" not in members[0].run.plan.data.counts:
        return [None] * len(members)
    return evaluate_members(members, "validation")


def _end_epoch_of(
    member: Member, phase: int, step: int, validated: ClassificationReport | None
) -> Report:
    run = member.run
    member.losses.reduce(run.ranks)
    metrics = {"train/loss": member.losses.epoch_sum / max(1, member.losses.epoch_rows)}
    if validated is not None:
        metrics |= finite(validated.metrics(prefix="validation/"))
    member.losses = Losses()
    if take_metrics(run, run.plan.phases[phase], step, metrics).is_best:
        member.hold_best()
    return Report(
        trial=member.trial,
        phase=phase,
        epoch=step // run.plan.steps_per_epoch + 1,
        steps_done=run.position.steps_done,
        metrics=metrics,
    )


@final
class _Losses:
    """Losses of a stack's members since they were handed to them."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._rows = 0

    def add(self, sums: Tensor, num_rows: int) -> None:
        """Take the sums [K] of one step."""
        # They are read later, so that a GPU need not be waited for at every step.
        self._sums.append(sums)
        self._rows += num_rows

    def hand_over(self, members: Sequence[Member]) -> None:
        """Give each member the sum of its losses."""
        if not self._sums:
            return
        sums = torch.stack(self._sums).cpu().double().sum(dim=0)
        for member, of_member in zip(members, sums, strict=True):
            member.losses.add(of_member, self._rows)
        self._sums, self._rows = [], 0
