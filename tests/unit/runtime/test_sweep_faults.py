"""Sweeps whose processes die in every order: each trial ends once, none is done twice at a time.

A model of what surrounds a sweep is driven by chance: processes that work on units and die, answers
that are lost, a driver that is killed. Folders of trials, with their checkpoints, outlive them all.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rayft.plan.stopping import Rule
from rayft.plan.trials import Ending, Report, Unit
from rayft.runtime.sweep import Sweep
from rayft.runtime.sweep_record import SweepState, read_state
from tests.unit.runtime.sweeping import (
    ACCURACY,
    Asha,
    Fifo,
    Kept,
    Listed,
    Written,
    fused,
    lone,
    make_sweep,
    stage,
)

EPOCHS = [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]
"""Phase and epoch after each epoch of a trial."""
SHARED = 2
"""Epochs of the first phase, which stages share."""


def value(trial: int, done: int) -> float:
    return ((trial + 1) * 37 % 11) / 11 + done / 100


def reports(trials: tuple[int, ...], done: int, shared: bool) -> list[Report]:
    """What is reported after so many epochs; trials that share a stage reach the same."""
    phase, epoch = EPOCHS[done - 1]
    return [
        Report(
            trial=trial,
            phase=phase,
            epoch=epoch,
            steps_done=done,
            metrics={ACCURACY: value(0 if shared else trial, done)},
        )
        for trial in trials
    ]


@dataclass
class Process:
    """Works on a unit."""

    unit: Unit
    members: set[int]
    done: int = 0
    is_begun: bool = False


@dataclass
class World:
    """What lies on the disk."""

    checkpoints: dict[str, int] = field(default_factory=dict)
    """By folder the epochs in its newest checkpoint."""
    deaths: Counter[int] = field(default_factory=Counter)


@st.composite
def plans(draw: st.DrawFn) -> list[Unit]:
    """Trials in groups: alone or fused, some of them after a stage."""
    number = draw(st.integers(1, 9))
    units: list[Unit] = []
    first = 0
    while first < number:
        size = draw(st.integers(1, number - first))
        group = tuple(range(first, first + size))
        source = ""
        if draw(st.booleans()):
            units.append(stage(f"of-{first}", *group))
            source = units[-1].name
        if draw(st.booleans()):
            units.append(fused(*group, begins_from=source))
        else:
            units += [lone(trial, begins_from=source) for trial in group]
        first += size
    return draw(st.permutations(units))


class FaultySweep(RuleBasedStateMachine):
    @initialize(
        plan=plans(),
        scheduler=st.sampled_from([Fifo(), Asha(), Asha(grace=2, reduction_factor=2)]),
        ask_at_once=st.sampled_from([1, 2, 4, 100]),
        refused=st.sets(st.integers(0, 8), max_size=2),
    )
    def start(self, plan: list[Unit], scheduler: Rule, ask_at_once: int, refused: set[int]) -> None:
        self.number = len({trial for unit in plan for trial in unit.trials})
        self.planner = Written(plan, problems=dict.fromkeys(refused, "refused"))
        self.scheduler = scheduler
        self.ask_at_once = ask_at_once
        self.journal = Kept()
        self.world = World()
        self.open()

    def open(self) -> None:
        self.processes: dict[str, Process] = {}
        self.sampler = Listed(self.number)
        self.sweep: Sweep = make_sweep(
            self.journal,
            sampler=self.sampler,
            planner=self.planner,
            rule=self.scheduler,
            ask_at_once=self.ask_at_once,
        )

    # What a driver and its processes do.

    @rule()
    def take(self) -> None:
        unit = self.sweep.next_unit()
        if unit is None:
            return
        working = {trial for one in self.processes.values() for trial in one.members}
        assert unit.name not in self.processes
        assert not working & set(unit.trials), "a trial is worked on twice at a time"
        state = self.sweep.state().trials
        assert all(state[trial].ending is None for trial in unit.trials), (
            "an ended trial is done again"
        )
        if unit.begins_from:
            assert self.world.checkpoints[unit.begins_from] == SHARED, "its stage is not done"
        self.processes[unit.name] = Process(unit, set(unit.trials))

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        process = self._one(data)
        if not process.is_begun:
            self._begin(process)
        else:
            self._epoch(process, saves=data.draw(st.booleans()), repeats=data.draw(st.booleans()))

    # What can happen to them.

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """A process dies, and Ray starts it again."""
        process = self._one(data)
        if process.is_begun:
            self._blame(process)
        process.is_begun = False

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def die_for_good(self, data: st.DataObject) -> None:
        process = self._one(data)
        self._blame(process)
        self.sweep.lose(process.unit.name, "it died")
        del self.processes[process.unit.name]

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def lose_a_node(self, data: st.DataObject) -> None:
        """A process dies by no fault of its own, and Ray starts it again elsewhere."""
        process = self._one(data)
        self.sweep.excuse(process.unit.name)
        process.is_begun = False

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        process = self._one(data)
        self.sweep.leave(process.unit.name)
        del self.processes[process.unit.name]

    @rule()
    def kill_driver(self) -> None:
        before = at_rest(self.sweep.state())
        self.open()
        assert at_rest(self.sweep.state()) == before
        assert self.sampler.told == [
            (trial, one.ending.metrics.get(ACCURACY))
            for trial, one in before.trials.items()
            if one.ending is not None
        ]

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def kill_driver_before_it_answers(self, data: st.DataObject) -> None:
        process = self._one(data)
        if process.is_begun and process.done < self._last(process):
            self.sweep.report(process.unit.name, self._reports(process, process.done + 1))
        self.open()

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def refuse_to_write(self, data: st.DataObject) -> None:
        """The disk is full for a moment; the driver fails with it."""
        process = self._one(data)
        self.journal.refuses = True
        with pytest.raises(OSError, match="no space"):
            self.sweep.leave(process.unit.name)
        self.journal.refuses = False
        self.open()

    # What always holds.

    @invariant()
    def knows_what_its_journal_says(self) -> None:
        assert read_state(self.journal.read()) == self.sweep.state()

    @invariant()
    def has_each_point_epoch_and_ending_once(self) -> None:
        asked: Counter[int] = Counter()
        ended: Counter[int] = Counter()
        epochs: Counter[tuple[int, int, int]] = Counter()
        apart: Counter[int] = Counter()
        failed_stages = set()
        for event in self.journal.read():
            for one in [*event.get("reports", ()), *event.get("adopted", ())]:
                epochs[one["trial"], one["phase"], one["epoch"]] += 1
            if event["kind"] == "asked":
                asked.update(point["trial"] for point in event["points"])
                ended.update(int(trial) for trial in event["problems"])
            elif event["kind"] == "ended":
                name = str(event["unit"])
                is_stage = name.startswith("stage")
                assert name not in failed_stages
                for ending in event["endings"]:
                    if is_stage and ending["status"] == "failed":
                        failed_stages.add(name)
                    elif ending["together"]:
                        apart[ending["trial"]] += 1
                    else:
                        ended[ending["trial"]] += 1
        assert set(asked.values()) <= {1}
        assert set(ended.values()) <= {1}
        assert set(apart.values()) <= {1}
        assert set(epochs.values()) <= {1}

    def teardown(self) -> None:
        """Without any more faults every sweep comes to its end."""
        if not hasattr(self, "sweep"):
            return
        for _ in range(200):
            self.take()
            for process in list(self.processes.values()):
                self._begin(process) if not process.is_begun else self._epoch(process)
            if self.sweep.is_over:
                break
        assert self.sweep.is_over, "the sweep does not come to an end"
        self.knows_what_its_journal_says()
        self.has_each_point_epoch_and_ending_once()
        for trial, state in self.sweep.state().trials.items():
            self._check_end(trial, state.ending, [(r.phase, r.epoch) for r in state.reports])

    def _check_end(self, trial: int, ending: Ending | None, seen: list[tuple[int, int]]) -> None:
        assert ending is not None
        assert seen == EPOCHS[: len(seen)], "an epoch is missing"
        match ending.status:
            case "finished":
                assert seen == EPOCHS
            case "stopped":
                assert seen
                assert not isinstance(self.scheduler, Fifo)
            case "failed":
                assert self.world.deaths[trial] >= 3
            case status:
                assert status == "invalid"
                assert trial in self.planner.problems

    # How a process works.

    def _one(self, data: st.DataObject) -> Process:
        return self.processes[data.draw(st.sampled_from(sorted(self.processes)))]

    def _folders(self, process: Process) -> list[str]:
        if process.unit.kind == "stage":
            return [process.unit.name]
        return [f"trial-{trial:04d}" for trial in sorted(process.members)]

    def _blame(self, process: Process) -> None:
        if process.unit.kind != "stage":
            self.world.deaths.update(process.members)

    def _begin(self, process: Process) -> None:
        for folder in self._folders(process):
            if process.unit.begins_from:
                forked = self.world.checkpoints[process.unit.begins_from]
                self.world.checkpoints.setdefault(folder, forked)
        saved = [self.world.checkpoints.get(folder, 0) for folder in self._folders(process)]
        process.done = min(saved)
        process.is_begun = True
        steps_done = dict.fromkeys(process.members, process.done)
        self._stop(process, self.sweep.begin(process.unit.name, steps_done))

    def _epoch(self, process: Process, *, saves: bool = True, repeats: bool = False) -> None:
        last = self._last(process)
        if process.done < last:
            process.done += 1
            sent = self._reports(process, process.done)
            stop = self.sweep.report(process.unit.name, sent)
            if repeats:
                # The answer was lost on its way.
                assert self.sweep.report(process.unit.name, sent) == stop
            if saves or process.done == last:
                for folder in self._folders(process):
                    self.world.checkpoints[folder] = process.done
            self._stop(process, stop)
        elif process.unit.kind == "stage":
            self.sweep.end(process.unit.name, [])
            del self.processes[process.unit.name]
        else:
            self._end(process, process.members, "finished")

    def _last(self, process: Process) -> int:
        return SHARED if process.unit.kind == "stage" else len(EPOCHS)

    def _reports(self, process: Process, done: int) -> list[Report]:
        is_shared = done <= SHARED and self._is_shared(process)
        return reports(tuple(sorted(process.members)), done, is_shared)

    def _is_shared(self, process: Process) -> bool:
        """Whether members would reach the same in the first phase, in a stage or not."""
        stages = [unit for unit in self.planner.plan or () if unit.kind == "stage"]
        return any(set(unit.trials) >= process.members for unit in stages)

    def _stop(self, process: Process, stop: frozenset[int]) -> None:
        assert stop <= process.members
        if stop:
            self._end(process, stop, "stopped")

    def _end(self, process: Process, trials: frozenset[int] | set[int], status: str) -> None:
        endings = [
            Ending(
                trial=trial,
                status="finished" if status == "finished" else "stopped",
                metrics={ACCURACY: value(trial, process.done)},
            )
            for trial in sorted(trials)
        ]
        if process.unit.kind == "stage":
            assert trials == process.members, "what trials share stops for all of them"
        self.sweep.end(process.unit.name, endings)
        process.members -= trials
        if not process.members:
            del self.processes[process.unit.name]


def at_rest(state: SweepState) -> SweepState:
    """Return a state as the next process finds it."""
    trials = {
        trial: replace(one, status="waiting") if one.status == "running" else one
        for trial, one in state.trials.items()
    }
    return SweepState(trials=trials, running={})


TestFaultySweep = FaultySweep.TestCase
TestFaultySweep.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
