"""The board of a sweep: a Ray actor that knows how all trials stand, and alone writes it down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayft.engine.ports import Json
from rayft.metrics import check_metric
from rayft.plan.stage_keys import stage_plan
from rayft.plan.trials import Ending, Report, Unit
from rayft.runtime.each_node import alive_nodes
from rayft.runtime.journal import Event
from rayft.runtime.search import make_sampler
from rayft.runtime.sweep import Sweep
from rayft.runtime.sweep_folder import SweepFolder
from rayft.runtime.sweep_journal import SweepJournal, open_sweep_journal
from rayft.runtime.sweep_record import SweepState
from rayft.runtime.trial_planner import Ground, TrialPlanner
from rayft.runtime.unit_work import Member, UnitWork
from rayft.spec.run import RunSpec
from rayft.spec.sweep import SweepSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRequest:
    """What a board is started with."""

    sweep: SweepSpec
    run: RunSpec
    folder: SweepFolder
    ground: Ground
    ask_at_once: int
    """Most trials that are asked for and not over."""


class Board:
    """Hands out units, takes reports, and decides which trials stop.

    Args:
        request: the sweep.
    """

    def __init__(self, request: SweepRequest) -> None:
        sweep = request.sweep
        direction = check_metric(sweep.metric, setting="metric")
        self._folder = request.folder
        self._planner = TrialPlanner(sweep, request.run, request.folder, request.ground)
        self._journal = HeardJournal(open_sweep_journal(request.folder.place))
        self._sweep = Sweep(
            metric=sweep.metric,
            direction=direction,
            rule=sweep.scheduler,
            sampler=make_sampler(sweep, request.run, direction=direction),
            planner=self._planner,
            journal=self._journal,
            ask_at_once=request.ask_at_once,
        )
        self._units: dict[str, Unit] = {}
        self._nodes: dict[str, str] = {}
        """By unit the node that works on it."""

    def next_unit(self) -> tuple[str, bool]:
        """Return the name of the next unit, empty where none can start now, and whether to end."""
        unit = self._sweep.next_unit()
        if unit is None:
            return "", self._sweep.is_over
        self._units[unit.name] = unit
        return unit.name, False

    def work_of(self, name: str) -> UnitWork:
        """Return what a unit is made of."""
        unit = self._units[name]
        trials = [unit.trials] if unit.kind == "stage" else [(trial,) for trial in unit.trials]
        return UnitWork(unit=unit, members=tuple(self._member(unit, each) for each in trials))

    def _member(self, unit: Unit, trials: tuple[int, ...]) -> Member:
        point = self._sweep.point(trials[0])
        plan = self._planner.plan(point)
        if unit.kind == "stage":
            place = str(self._folder.stages)
            plan = stage_plan(plan, unit.stops_before, name=unit.name, storage_path=place)
        return Member(trials=trials, plan=plan, dataset=self._planner.dataset(point).ref)

    def begin(self, unit: str, steps_done: Mapping[int, int], *, node: str) -> frozenset[int]:
        """Take note that a process begins to work on a unit; return who goes no further.

        Args:
            unit: its name.
            steps_done: for each trial the steps in the checkpoint that it goes on from.
            node: id of the node that the process runs on.
        """
        before, self._nodes[unit] = self._nodes.get(unit), node
        if before is not None and before not in {alive.id for alive in alive_nodes()}:
            # That a node went says nothing of the unit that ran there.
            self._sweep.excuse(unit)
        return self._sweep.begin(unit, steps_done)

    def report(self, unit: str, reports: Sequence[Report]) -> frozenset[int]:
        """Take what trials have reached at the end of an epoch; return those that are to stop."""
        return self._sweep.report(unit, reports)

    def end(self, unit: str, endings: Sequence[Ending], *, is_over: bool) -> None:
        """Take what became of a unit's trials; what is not over was saved and left."""
        if endings or is_over:
            self._sweep.end(unit, endings)
        if not is_over:
            self._sweep.leave(unit)

    def lose(self, unit: str, reason: str) -> None:
        """Take back a unit whose process died."""
        self._sweep.lose(unit, reason)

    def stop(self) -> None:
        """Hand out no more units: the sweep was asked to save and stop."""
        self._sweep.stop()

    def news(self, since: int) -> tuple[list[Event], int]:
        """Return the events from a place on, and the place of the next one.

        Raises:
            OSError: the journal can no longer be written, so that the sweep cannot go on.
        """
        if self._journal.fault is not None:
            raise self._journal.fault
        return self._journal.events[since:], len(self._journal.events)

    def is_over(self) -> bool:
        """Return whether nothing is worked on, and nothing is to be begun."""
        return self._sweep.is_over

    def state(self) -> SweepState:
        """Return how all trials stand."""
        return self._sweep.state()


class HeardJournal:
    """Keeps the events of a journal in memory as well, for the driver to tell of them.

    Args:
        inner: the journal.
    """

    def __init__(self, inner: SweepJournal) -> None:
        self._inner = inner
        self.events: list[Event] = []
        self.fault: Exception | None = None
        """Why nothing can be written any more."""

    def read(self) -> list[Event]:
        """Return every event, oldest first."""
        self.events = self._inner.read()
        return list(self.events)

    def append(self, event: Mapping[str, Json]) -> None:
        """Keep one event."""
        try:
            self._inner.append(event)
        except Exception as error:
            self.fault = error
            raise
        self.events.append(dict(event))


def start_board(request: SweepRequest) -> "ray.actor.ActorHandle[Board]":
    """Start a board beside the caller: it takes no CPU from trials."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return (
        ray.remote(Board)
        .options(num_cpus=0, scheduling_strategy=here, max_restarts=0)
        .remote(request)
    )
