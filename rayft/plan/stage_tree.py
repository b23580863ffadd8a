"""The phases that trials of a sweep have in common: run once, as a tree of stages.

A stage is what several trials do alike, from the start or from the end of another stage, up to the
phase boundary where they part. Each of them begins from its last stage's end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rayft.plan.run_plan import RunPlan
from rayft.plan.stage_keys import stage_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Phases that several trials share."""

    key: str
    """Names the state at its end: equal wherever equal phases came before."""
    stops_before: int
    """Index of the first plain phase that it does not run."""
    trials: tuple[int, ...]
    """Those that share it, ascending."""
    parent: str
    """Key of the stage that it begins from; empty where it begins from the start."""
    phases: tuple[str, ...]
    """Names of the phases that it runs itself, as its first trial calls them."""
    epochs: int
    """Epochs of these phases."""

    @property
    def name(self) -> str:
        """Name of the stage as a run."""
        return f"stage-{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTree:
    """All stages of a sweep, and what they save."""

    stages: tuple[Stage, ...]
    """Each after the one that it begins from."""
    epochs: Mapping[int, int]
    """Epochs of each trial, were it run by itself."""

    def leaf_of(self, trial: int) -> str:
        """Return the key of the stage that a trial begins from; empty where it shares nothing."""
        stage = self._last(trial)
        return stage.key if stage else ""

    def stage(self, key: str) -> Stage:
        """Return a stage.

        Raises:
            KeyError: there is none with this key.
        """
        for stage in self.stages:
            if stage.key == key:
                return stage
        raise KeyError(key)

    @property
    def epochs_run(self) -> int:
        """Epochs that are trained in all."""
        return sum(self.epochs.values()) - self.epochs_saved

    @property
    def epochs_saved(self) -> int:
        """Epochs that sharing leaves out."""
        return sum((len(stage.trials) - 1) * stage.epochs for stage in self.stages)

    def lines(self) -> list[str]:
        """Return the tree as text, a line for each stage and for the trials that leave it."""
        whole = sum(self.epochs.values())
        if not self.stages:
            return [f"no phases in common: {_count(whole, 'epoch')}"]
        saved = f"{_count(self.epochs_run, 'epoch')} instead of {whole}, {self.epochs_saved} saved"
        return [saved, *self._below("", indent=1)]

    def _below(self, parent: str, *, indent: int) -> Iterator[str]:
        room = "  " * indent
        for stage in self.stages:
            if stage.parent == parent:
                phases = f"{', '.join(stage.phases)} ({_count(stage.epochs, 'epoch')})"
                yield f"{room}{phases} once for {_count(len(stage.trials), 'trial')}: {stage.name}"
                yield from self._below(stage.key, indent=indent + 1)
        if leaving := [trial for trial in self.epochs if self.leaf_of(trial) == parent]:
            kind = "trial" if len(leaving) == 1 else "trials"
            yield f"{room}{kind} {_ranges(leaving)}{' from the start' if not parent else ''}"

    def _last(self, trial: int) -> Stage | None:
        """Return a trial's last stage: the longest, since each holds those before it."""
        found = [stage for stage in self.stages if trial in stage.trials]
        return max(found, key=lambda stage: stage.stops_before, default=None)


def grow(plans: Mapping[int, RunPlan]) -> StageTree:
    """Find the phases that trials have in common.

    Only boundaries where trials part are ends of stages. Trials that are equal in all phases part
    after the last one: each is then evaluated and reported for itself.

    Args:
        plans: the plan of each trial.
    """
    keys = {trial: stage_keys(plans[trial]) for trial in sorted(plans)}
    return StageTree(
        stages=tuple(_branches(keys, plans, begun=0, parent="")),
        epochs={trial: _epochs(plans[trial], 0, len(keys[trial])) for trial in keys},
    )


def _branches(
    keys: Mapping[int, Sequence[str]],
    plans: Mapping[int, RunPlan],
    *,
    begun: int,
    parent: str,
) -> Iterator[Stage]:
    """Yield the stages that begin where `begun` phases are over, and all that begin from them."""
    groups: dict[str, list[int]] = {}
    for trial, own in keys.items():
        if len(own) > begun:
            groups.setdefault(own[begun], []).append(trial)
    for trials in groups.values():
        if len(trials) < 2:
            continue
        stop = _parting([keys[trial] for trial in trials], begun)
        plan = plans[trials[0]]
        stage = Stage(
            key=keys[trials[0]][stop - 1],
            stops_before=stop,
            trials=tuple(trials),
            parent=parent,
            phases=tuple(phase.name for phase in plan.phases[begun:stop]),
            epochs=_epochs(plan, begun, stop),
        )
        yield stage
        shared = {trial: keys[trial] for trial in trials}
        yield from _branches(shared, plans, begun=stop, parent=stage.key)


def _parting(keys: Sequence[Sequence[str]], begun: int) -> int:
    """Return how many phases are over where runs part that have the next one in common."""
    alike = [len(set(phase)) == 1 for phase in zip(*keys, strict=False)]
    return next((n for n in range(begun + 1, len(alike)) if not alike[n]), len(alike))


def _epochs(plan: RunPlan, first: int, stop: int) -> int:
    return sum(phase.num_epochs for phase in plan.phases[first:stop])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as text: `0, 3, 5-9`."""
    starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(numbers)) if b - a > 1), len(numbers)]
    runs = [numbers[start:stop] for start, stop in pairwise(starts)]
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
