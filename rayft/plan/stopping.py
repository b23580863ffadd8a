"""Which trials of a sweep go no further: a pure function of what trials have reported.

Trials are compared with the same epoch of the same phase only. What a model reaches just after an
unfreezing says nothing about one that has not come to it yet, however many steps both have done.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, median
from typing import Literal, assert_never

from rayft.errors import Problem, SpecError
from rayft.plan.trials import Report
from rayft.spec.sweep import AshaScheduler, FifoScheduler, MedianScheduler

Direction = Literal["min", "max"]
Scores = Mapping[tuple[int, int], Mapping[int, float]]
"""By (phase, epoch) and trial what was reached; more is better, and -inf is no number."""


Rule = FifoScheduler | AshaScheduler | MedianScheduler


def to_stop(
    rule: Rule,
    reports: Iterable[Report],
    *,
    new: Sequence[Report],
    metric: str,
    direction: Direction,
) -> frozenset[int]:
    """Return the trials among those of `new` that go no further.

    Args:
        rule: the scheduler of the sweep.
        reports: everything reported before, by trials that have ended too.
        new: what is decided on; all of it counts before anything is decided, so that trials that
            report together are treated alike, in whatever order they stand.
        metric: what trials are compared by; a report without it neither counts nor stops.
        direction: whether less or more of it is better. A value that is no finite number is the
            worst.
    """
    if isinstance(rule, FifoScheduler):
        return frozenset()
    scores = _scores([*reports, *new], metric, direction)
    asked = [report for report in new if metric in report.metrics]
    match rule:
        case AshaScheduler():
            return frozenset(one.trial for one in asked if _falls_at_a_rung(rule, scores, one))
        case MedianScheduler():
            return frozenset(one.trial for one in asked if _is_below_median(rule, scores, one))
        case _:
            assert_never(rule)


def check_grace(rule: Rule, phase_epochs: Sequence[int], *, where: str = "scheduler.grace") -> None:
    """Check that a trial can be stopped before it has ended by itself.

    Args:
        rule: the scheduler of the sweep.
        phase_epochs: epochs of each phase of a trial, in their order.
        where: path of the setting, for the message.

    Raises:
        SpecError: every decision would come when the trial is over.
    """
    if isinstance(rule, FifoScheduler):
        return
    # After the last epoch of the last phase there is nothing left to save.
    longest = max([*phase_epochs[:-1], phase_epochs[-1] - 1])
    if rule.grace <= longest:
        return
    lengths = ", ".join(str(epochs) for epochs in phase_epochs)
    raise SpecError(
        Problem(
            where,
            f"{rule.grace} epochs of a phase go by before a trial may be stopped, and by then "
            f"every trial is over: its phases take {lengths} epochs",
            f"set it to {longest} or less" if longest else "remove the scheduler",
        )
    )


def rungs(rule: AshaScheduler, *, up_to: int) -> Iterator[int]:
    """Yield the epochs of a phase at which trials are compared."""
    epoch = rule.grace
    while epoch <= up_to:
        yield epoch
        epoch *= rule.reduction_factor


def _falls_at_a_rung(rule: AshaScheduler, scores: Scores, report: Report) -> bool:
    """Return whether a trial is not among the best at a rung.

    A trial goes on where it is among the best `len(rung) // reduction_factor` that have got there
    by now, and while the rung has fewer than `reduction_factor`. This is asynchronous successive
    halving in the form that stops trials instead of holding them back: nothing is left paused.

    Source:
        Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, section 3.2
        (https://arxiv.org/abs/1810.05934); the form that stops: Klein et al. 2020, Model-based
        Asynchronous Hyperparameter and Neural Architecture Search, section 3
        (https://arxiv.org/abs/2003.10865).
    """
    if report.epoch not in rungs(rule, up_to=report.epoch):
        return False
    rung = scores[report.phase, report.epoch]
    places = len(rung) // rule.reduction_factor
    if not places:
        return False
    better = sum(score > rung[report.trial] for score in rung.values())
    return better >= places


def _is_below_median(rule: MedianScheduler, scores: Scores, report: Report) -> bool:
    """Return whether a trial's best is worse than the median of the others' running averages.

    Others are those that have come to this epoch of the phase; best and averages are taken over
    the epochs of this phase up to it.

    Source:
        Golovin et al. 2017, Google Vizier: A Service for Black-Box Optimization, section 3.2.2.
    """
    if report.epoch < rule.grace:
        return False
    curves = {
        trial: [
            scores[report.phase, epoch][trial]
            for epoch in range(1, report.epoch + 1)
            if trial in scores.get((report.phase, epoch), ())
        ]
        for trial in scores[report.phase, report.epoch]
    }
    best = max(curves.pop(report.trial))
    if len(curves) < rule.min_trials:
        return False
    return best < median(fmean(curve) for curve in curves.values())


def _scores(reports: Iterable[Report], metric: str, direction: Direction) -> Scores:
    scores: dict[tuple[int, int], dict[int, float]] = {}
    for report in reports:
        if metric in report.metrics:
            value = report.metrics[metric]
            score = value if direction == "max" else -value
            here = scores.setdefault((report.phase, report.epoch), {})
            here[report.trial] = score if math.isfinite(score) else -math.inf
    return scores
