"""From points to planned trials, and from those to units of work."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from rayft.data.prepare import PreparedDataset
from rayft.errors import RequestError
from rayft.plan.facts import ClusterFacts, Speeds
from rayft.plan.fusing import fuse_key
from rayft.plan.kept_already import with_kept_already
from rayft.plan.run_plan import RunPlan
from rayft.plan.sampling import trial_spec
from rayft.plan.stage_tree import StageTree, grow
from rayft.plan.trials import Point, Unit
from rayft.runtime.preflight import OnRows, Places, plan_prepared, prepare_rows, unheard
from rayft.runtime.sweep_folder import Settled, SweepFolder
from rayft.runtime.sweep_record import TrialState
from rayft.runtime.sweep_units import lone_unit, trial_name
from rayft.spec.run import RunSpec
from rayft.spec.sweep import SweepSpec

_MOST_FUSED = 64
"""Trials of one fused unit: more gain little, and a unit that is lost takes its members along."""


@dataclass(slots=True, kw_only=True)
class Ground:
    """What trials stand on together; small enough to send to where they are planned."""

    places: Places
    cluster: ClusterFacts
    settled: Settled
    """What followed from the machine; precisions are added as networks are met."""
    prepared: dict[str, PreparedDataset] = field(default_factory=dict)
    """Datasets by the JSON of what they follow from."""
    speeds: dict[str, Speeds] = field(default_factory=dict)
    """Paces by the JSON of the network."""


def network_of(spec: RunSpec) -> str:
    """Return what paces and precision are remembered by."""
    return spec.model.backbone.model_dump_json(by_alias=True)


class TrialPlanner:
    """Plans trials and what is worked on together.

    Args:
        sweep: the sweep.
        run: the run that trials are made from.
        folder: of the sweep.
        ground: what they share.
    """

    def __init__(self, sweep: SweepSpec, run: RunSpec, folder: SweepFolder, ground: Ground) -> None:
        self.sweep = sweep
        self.ground = ground
        self.folder = folder
        self._run = run
        self._plans: dict[int, RunPlan | str] = {}
        self._datasets: dict[int, PreparedDataset] = {}

    def problem(self, point: Point) -> str | None:
        """Return why a trial cannot be run; None where it can."""
        planned = self._planned(point)
        return planned if isinstance(planned, str) else None

    def plan(self, point: Point) -> RunPlan:
        """Return the plan of a trial that has no problem."""
        planned = self._planned(point)
        assert not isinstance(planned, str)
        return planned

    def dataset(self, point: Point) -> PreparedDataset:
        """Return the rows of a trial that has no problem."""
        self.plan(point)
        return self._datasets[point.trial]

    def spec(self, point: Point) -> RunSpec:
        """Return the spec of a trial.

        Raises:
            SpecError: the spec refuses a value.
        """
        name = trial_name(point.trial)
        return self.spec_as(point, name=name, storage_path=str(self.folder.trials))

    def spec_as(self, point: Point, *, name: str, storage_path: str) -> RunSpec:
        """Return the spec of a trial under another name; it trains to the same result.

        Raises:
            SpecError: the spec refuses a value.
        """
        spec = trial_spec(self._run, point, name=name, storage_path=storage_path)
        settled = self.ground.settled
        changes: dict[str, object] = {}
        if spec.precision == "auto" and (found := settled.precision.get(network_of(spec))):
            changes["precision"] = found
        if spec.ingest == "auto":
            # The CPUs that one trial leaves free are those of the others.
            changes["ingest"] = "in_process"
        if "CPU" not in spec.scaling.resources_per_worker:
            reserved = {**settled.reserved, **spec.scaling.resources_per_worker}
            changes["scaling"] = spec.scaling.model_copy(update={"resources_per_worker": reserved})
        return spec.model_copy(update=changes)

    def _planned(self, point: Point) -> RunPlan | str:
        if point.trial not in self._plans:
            try:
                self._plans[point.trial] = self._make(point)
            except RequestError as error:
                self._plans[point.trial] = "; ".join(f"{p.where}: {p.what}" for p in error.problems)
        return self._plans[point.trial]

    def _make(self, point: Point) -> RunPlan:
        asked = self.spec(point)
        network = network_of(asked)
        spec = self.folder.run_of(point.trial).pinned(asked)
        prepared = self._prepared(spec)
        plan = plan_prepared(
            spec,
            self.ground.places,
            prepared,
            speeds=self.ground.speeds.get(network),
            cluster=self.ground.cluster,
        )
        settled = self.ground.settled
        if network not in settled.precision:
            # The first of its kind is planned again, with what all others are told.
            self.ground.speeds[network] = plan.speeds
            known = {**settled.precision, network: plan.precision}
            self.ground.settled = replace(settled, precision=known)
            return self._make(point)
        self._datasets[point.trial] = prepared
        # Trials make it once for all of them, so it pays however few epochs each has.
        return with_kept_already(
            plan,
            {phase.index: 1.0 for phase in plan.phases if phase.prefix and phase.prefix.can_keep},
        )

    def prepare(self, point: Point, *, use_ray: bool, on_rows: OnRows) -> None:
        """Prepare the rows of a trial, unless the spec refuses it."""
        with suppress(RequestError):
            self._prepared(self.spec(point), use_ray=use_ray, on_rows=on_rows)

    def _prepared(
        self, spec: RunSpec, *, use_ray: bool = False, on_rows: OnRows = unheard
    ) -> PreparedDataset:
        rows = spec.model_dump_json(by_alias=True, include={"data", "augment", "augment_on"})
        rows += spec.model.backbone.model_dump_json(by_alias=True)
        if rows not in self.ground.prepared:
            self.ground.prepared[rows] = prepare_rows(
                spec, self.ground.places, use_ray=use_ray, on_rows=on_rows
            )
        return self.ground.prepared[rows]

    def reserve(self, resources: Mapping[str, float]) -> None:
        """Give each worker of a trial these resources, and plan again."""
        self.ground.settled = replace(self.ground.settled, reserved=resources)
        self._plans.clear()

    def tree(self, points: Sequence[Point]) -> StageTree:
        """Return the phases that trials share."""
        return grow({point.trial: self.plan(point) for point in points})

    def units(
        self, points: Sequence[Point], states: Mapping[int, TrialState] = MappingProxyType({})
    ) -> tuple[Unit, ...]:
        """Return how trials are worked on, stages before what begins from them.

        Args:
            points: trials that had no problem when they were asked for, those that are over among
                them: what belongs together does not depend on how far the sweep is. One that
                cannot be run any longer is over, and left out.
            states: how trials stand, which does not matter.
        """
        del states
        points = [point for point in points if self.problem(point) is None]
        fused = self._fused(points)
        members = {trial for unit in fused for trial in unit.trials}
        rest = [point for point in points if point.trial not in members]
        return (*fused, *self._in_stages(rest))

    def _fused(self, points: Sequence[Point]) -> tuple[Unit, ...]:
        if self.sweep.fuse == "off":
            return ()
        groups: dict[str, list[int]] = {}
        for point in points:
            key = fuse_key(self.plan(point))
            if key is not None:
                groups.setdefault(key, []).append(point.trial)
        return tuple(
            Unit(name=f"fused-{chosen[0]:04d}", trials=tuple(chosen), kind="fused")
            for group in groups.values()
            for start in range(0, len(group), _MOST_FUSED)
            if len(chosen := group[start : start + _MOST_FUSED]) > 1
        )

    def _in_stages(self, points: Sequence[Point]) -> tuple[Unit, ...]:
        if self.sweep.share_phases == "off" or len(points) < 2:
            return tuple(lone_unit(point.trial) for point in points)
        tree = self.tree(points)
        stages = [
            Unit(
                name=stage.name,
                trials=stage.trials,
                kind="stage",
                begins_from=tree.stage(stage.parent).name if stage.parent else "",
                stops_before=stage.stops_before,
            )
            for stage in tree.stages
        ]
        leaves = [tree.leaf_of(point.trial) for point in points]
        lone = [
            replace(lone_unit(point.trial), begins_from=tree.stage(leaf).name if leaf else "")
            for point, leaf in zip(points, leaves, strict=True)
        ]
        return (*stages, *lone)
