"""Planning a sweep that goes on, where not all of its trials can be run any longer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rayft.errors import SpecError
from rayft.plan.facts import NodeFacts
from rayft.plan.trials import Ending
from rayft.runtime import sweep_plan
from rayft.runtime.preflight import unheard
from rayft.runtime.sweep_events import Asked, Ended, Handed, SweepEvent, encode
from rayft.runtime.sweep_folder import Settled
from rayft.runtime.sweep_journal import open_sweep_journal
from rayft.runtime.sweep_plan import (
    SweepPlan,
    check_sweep,
    folder_of,
    ground_of,
    places_of_sweep,
    plan_sweep,
    plan_trials,
)
from rayft.runtime.trial_planner import TrialPlanner
from rayft.spec.load_sweep import LoadedSweep, sweep_from_data
from rayft.spec.run import RunSpec
from tests.laws.harness import make_spec


def grid(run: RunSpec, space: dict[str, str]) -> LoadedSweep:
    """Return a sweep over a run, stored where the run is."""
    return sweep_from_data(
        {
            "name": "sweep",
            "storage_path": run.storage_path,
            "run": run.model_dump(mode="json", by_alias=True),
            "space": space,
            "search": {"kind": "grid"},
        }
    )


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedSweep:
    """Return a sweep in which trial 1 must keep what frozen layers make."""
    run = make_spec(
        storage_path=str(tmp_path),
        phases=[{"name": "probe", "train": ["heads"], "for": "1 epochs", "lr": 0.01}],
        augment=[],
    )
    return grid(run, {"cache.mode": "choice([auto, require])"})


def begun(loaded: LoadedSweep, *more: SweepEvent) -> SweepPlan:
    """Write a sweep as one that has asked for all of its points."""
    plan = plan_sweep(loaded, on_rows=unheard)
    assert not plan.problems
    folder = folder_of(loaded)
    folder.begin(loaded.sweep, loaded.run, Settled(reserved={"CPU": 1.0}, precision={}))
    journal = open_sweep_journal(folder.place)
    for event in (Asked(points=plan.points, problems={}), *more):
        journal.append(encode(event))
    return plan


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what leaves no room on the disk to the sweeps that are planned from then on."""
    real = sweep_plan.cluster_facts

    def fill() -> None:
        full = {"disk_free_bytes": 0, "kept_bytes": 0}
        monkeypatch.setattr(sweep_plan, "cluster_facts", lambda at: replace(real(at), **full))

    return fill


def test_a_sweep_whose_open_trial_cannot_be_run_here_is_refused(
    loaded: LoadedSweep, fill_disk: Callable[[], None]
) -> None:
    begun(loaded)
    fill_disk()

    with pytest.raises(SpecError, match=r"trial-0001 can no longer be run here: cache"):
        plan_sweep(loaded, on_rows=unheard)


def test_a_trial_that_is_over_need_not_be_possible(
    loaded: LoadedSweep, fill_disk: Callable[[], None]
) -> None:
    over = Ending(trial=1, status="finished", metrics={"validation/accuracy": 0.5})
    begun(
        loaded,
        Handed(unit="trial-0001", trials=(1,), work="lone", stops_before=0, adopted=()),
        Ended(unit="trial-0001", endings=(over,)),
    )
    fill_disk()

    places, folder = places_of_sweep(loaded), folder_of(loaded)
    ground = ground_of(places, folder, check_sweep(loaded, places, folder))
    planner = TrialPlanner(loaded.sweep, loaded.run, folder, ground)

    plan = plan_trials(loaded, planner, use_ray=False, on_rows=unheard)

    assert [unit.trials for unit in planner.units(plan.points)] == [(0,)]


def test_a_trial_whose_images_are_too_small_is_known_beforehand(tmp_path: Path) -> None:
    blur = {"kind": "gaussian_blur", "kernel_size": 5}
    run = make_spec(storage_path=str(tmp_path), augment=[blur])
    loaded = grid(run, {"augment.0.kernel_size": "choice([5, 99])"})

    plan = plan_sweep(loaded, on_rows=unheard)

    assert plan.problems == {
        1: "augment.0.kernel_size: half of 99 pixels cannot be mirrored from an image of 32 pixels"
    }


@pytest.mark.parametrize(("reduction", "threads"), [("mean", 2), ("exact", 1)])
def test_exact_trials_have_one_thread_as_a_run_of_its_own_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reduction: str, threads: int
) -> None:
    real = sweep_plan.cluster_facts
    node = NodeFacts(name="node", resources={"CPU": 8.0}, memory_bytes=2**34)
    eight = {"cpus": 8.0, "max_cpus": 8.0, "nodes": (node,)}
    monkeypatch.setattr(sweep_plan, "cluster_facts", lambda at: replace(real(at), **eight))
    run = make_spec(storage_path=str(tmp_path), reduction=reduction, scaling={"num_workers": 1})
    loaded = grid(run, {"seed": "choice([0, 1])"})

    plan = plan_sweep(loaded, on_rows=unheard)

    assert plan.first.resources.threads_per_worker == threads
