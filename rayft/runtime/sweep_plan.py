"""What a sweep will do: its trials planned, what they share, and how many run at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from rayft.errors import Problem, SpecError
from rayft.metrics import check_metric
from rayft.plan.facts import ClusterFacts
from rayft.plan.run_plan import RunPlan
from rayft.plan.stage_tree import StageTree
from rayft.plan.stopping import check_grace
from rayft.plan.sweep_slots import Slots, cpus_of_trials, plan_slots
from rayft.plan.trials import Point, Unit
from rayft.runtime.facts import cluster_facts
from rayft.runtime.launch import connect_if_told
from rayft.runtime.preflight import OnRows, Places, check, places_of, resolve
from rayft.runtime.search import make_sampler
from rayft.runtime.sweep_folder import Settled, SweepFolder
from rayft.runtime.sweep_journal import open_sweep_journal
from rayft.runtime.sweep_record import read_state
from rayft.runtime.sweep_units import trial_name
from rayft.runtime.trial_planner import Ground, TrialPlanner, network_of
from rayft.spec.load_sweep import LoadedSweep
from rayft.spec.run import ExactReduction
from rayft.spec.sweep import SweepSpec

ALL_POINTS = 1_000_000
"""More points than any sweep asks for at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What a sweep will do, as far as its points are known beforehand."""

    sweep: SweepSpec
    first: RunPlan
    """Plan of trial 0, the run's own values."""
    points: tuple[Point, ...]
    """Those known beforehand: all of a grid and of random search."""
    problems: dict[int, str]
    """Why trials cannot be run."""
    units: tuple[Unit, ...]
    tree: StageTree
    slots: Slots


def plan_sweep(loaded: LoadedSweep, *, on_rows: OnRows) -> SweepPlan:
    """Return what a sweep would do; prepare its rows, and start nothing else.

    Raises:
        RequestError: the request cannot be honoured.
    """
    places, folder = places_of_sweep(loaded), folder_of(loaded)
    connect_if_told()
    first = check_sweep(loaded, places, folder)
    ground = ground_of(places, folder, first)
    planner = TrialPlanner(loaded.sweep, loaded.run, folder, ground)
    return plan_trials(loaded, planner, use_ray=False, on_rows=on_rows)


def folder_of(loaded: LoadedSweep) -> SweepFolder:
    """Return the folder of a sweep."""
    return SweepFolder(places_of_sweep(loaded).storage_path / loaded.sweep.name)


def places_of_sweep(loaded: LoadedSweep) -> Places:
    """Return where the runs of a sweep read and write."""
    return places_of(loaded.run.model_copy(update={"storage_path": loaded.sweep.storage_path}))


def check_sweep(loaded: LoadedSweep, places: Places, folder: SweepFolder) -> RunPlan:
    """Refuse what cannot work; return the plan so far of the run's own values.

    Raises:
        RequestError: the request cannot be honoured.
    """
    sweep, run = loaded.sweep, loaded.run
    folder.check_same(sweep, run)
    # A trial without workers computes in the process that the cluster gives it.
    plan = check(
        run.model_copy(update={"storage_path": sweep.storage_path}),
        places,
        cluster=cluster_facts(places.storage_path),
    )
    check_metric(sweep.metric, setting="metric", num_classes=len(plan.data.classes))
    _check_split(sweep.metric, plan)
    check_grace(sweep.scheduler, [phase.num_epochs for phase in plan.phases])
    resolve(plan.spec, places, plan)
    return plan


def _check_split(metric: str, plan: RunPlan) -> None:
    if "validation" not in plan.data.counts:
        raise SpecError(
            Problem(
                "metric",
                f"no trial reports {metric}: the run has no validation split",
                "give it one, such as run.data.validation={fraction: 0.1}",
            )
        )


def ground_of(places: Places, folder: SweepFolder, first: RunPlan) -> Ground:
    """Return what trials stand on together."""
    cluster = cluster_facts(places.storage_path)
    # Until it is known how many units there are.
    settled = folder.settled() or Settled(reserved={"CPU": 1.0}, precision={})
    speeds = {network_of(first.spec): first.speeds}
    return Ground(places=places, cluster=cluster, settled=settled, speeds=speeds)


def plan_trials(
    loaded: LoadedSweep, planner: TrialPlanner, *, use_ray: bool, on_rows: OnRows
) -> SweepPlan:
    """Plan all trials whose points are known, and decide what each of them gets."""
    sweep, ground = loaded.sweep, planner.ground
    points = _points_beforehand(loaded, planner.folder)
    for point in points:
        planner.prepare(point, use_ray=use_ray, on_rows=on_rows)
    if planner.folder.settled() is None:
        found = _plannable(points, planner)
        units = planner.units(found)
        number = sum(1 for unit in units if unit.kind != "stage")
        if sweep.search.kind == "tpe":
            number = sweep.search.num_trials
        plans = [planner.plan(point) for point in found]
        planner.reserve({"CPU": _cpus(plans, ground.cluster, units=number)})
    _refuse_lost(points, planner)
    found = _plannable(points, planner)
    units = planner.units(found)
    first = planner.plan(found[0])
    return SweepPlan(
        sweep=sweep,
        first=first,
        points=points,
        problems={point.trial: problem for point in points if (problem := planner.problem(point))},
        units=units,
        tree=planner.tree(_not_fused(found, units)),
        slots=plan_slots(
            ground.cluster, first.resources, ingest=first.ingest.kind, asked=sweep.max_concurrent
        ),
    )


def _cpus(plans: Sequence[RunPlan], cluster: ClusterFacts, *, units: int) -> float:
    """Return the CPUs that each worker of a trial gets where its spec leaves them open."""
    if any(isinstance(plan.spec.reduction, ExactReduction) for plan in plans):
        # Threads change the last bits of a sum: such a trial has one, as a run of its own has.
        return 1.0
    first = plans[0]
    return cpus_of_trials(cluster, first.resources, ingest=first.ingest.kind, units=units)


def _plannable(points: Sequence[Point], planner: TrialPlanner) -> list[Point]:
    """Return the points that can be run.

    Raises:
        SpecError: not one of them can.
    """
    found = [point for point in points if planner.problem(point) is None]
    if not found:
        reasons = dict.fromkeys(planner.problem(point) or "" for point in points)
        raise SpecError(
            Problem("space", f"no trial can be run: {'; '.join(reasons)}", "change the space")
        )
    return found


def _refuse_lost(points: Sequence[Point], planner: TrialPlanner) -> None:
    """Refuse to go on where a trial that is still to be run no longer can be.

    Raises:
        SpecError: one problem for each of them.
    """
    trials = read_state(open_sweep_journal(planner.folder.place).read()).trials
    still = [point for point in points if point.trial in trials and not trials[point.trial].ending]
    lost = {point.trial: problem for point in still if (problem := planner.problem(point))}
    if lost:
        where, fix = str(planner.folder.place), "run it where its trials fit, as when it began"
        raise SpecError(
            *(
                Problem(where, f"{trial_name(trial)} can no longer be run here: {problem}", fix)
                for trial, problem in lost.items()
            )
        )


def _not_fused(points: Sequence[Point], units: Sequence[Unit]) -> list[Point]:
    fused = {trial for unit in units if unit.kind == "fused" for trial in unit.trials}
    return [point for point in points if point.trial not in fused]


def _points_beforehand(loaded: LoadedSweep, folder: SweepFolder) -> tuple[Point, ...]:
    """Return the points that have been asked for, and those that do not wait for results."""
    state = read_state(open_sweep_journal(folder.place).read())
    known = tuple(trial.point for trial in state.trials.values())
    if loaded.sweep.search.kind == "tpe":
        return known or (Point(trial=0, values={}),)
    direction = check_metric(loaded.sweep.metric, setting="metric")
    sampler = make_sampler(loaded.sweep, loaded.run, direction=direction)
    return (*known, *sampler.ask(ALL_POINTS, known))
