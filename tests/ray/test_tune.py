"""Whole sweeps by Ray Tune, small ones: what they run, share, write, and leave behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from safetensors.numpy import load_file

from rayft.errors import TrainingError
from rayft.runtime.evaluate import evaluate
from rayft.runtime.sweep_journal import open_sweep_journal
from rayft.runtime.sweep_record import read_state
from rayft.runtime.train import train
from rayft.runtime.tune import tune
from rayft.spec.load import load_spec
from rayft.spec.load_sweep import LoadedSweep, sweep_from_data
from rayft.storage.location import Location
from tests.clusters.test_job_submit import KEPT_BY_RAY_DATA
from tests.laws.harness import make_spec

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(300)]

HEADS = {"name": "probe", "train": ["heads"], "for": "2 epochs", "lr": 0.01}
ALL = {"name": "tune", "train": ["all"], "for": "1 epochs", "lr": 0.001}


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.plan: Any = None

    def on_stage(self, text: str) -> None: ...
    def on_rows(self, done: int, total: int) -> None: ...
    def on_sweep(self, plan: Any) -> None:
        self.plan = plan

    def on_event(self, event: Any) -> None:
        self.events.append(dict(event))


def sweep_of(folder: Path, *, run: dict[str, Any] | None = None, **changes: Any) -> LoadedSweep:
    spec = make_spec(
        storage_path=str(folder),
        **{"phases": [HEADS], "augment": [], "scaling": {"num_workers": 1}, **(run or {})},
    )
    tree = spec.model_dump(mode="json", by_alias=True)
    return sweep_from_data(
        {
            "name": "sweep",
            "storage_path": str(folder),
            "run": tree,
            "space": {"phases.0.lr": "choice([0.01, 0.03, 0.1])"},
            "search": {"kind": "grid"},
            **changes,
        }
    )


def weights(checkpoint: str) -> dict[str, Any]:
    return load_file(Path(checkpoint, "model.safetensors"))


@pytest.fixture(scope="module")
def lone(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the result of a sweep whose trials ran one by one."""
    return tune(sweep_of(tmp_path_factory.mktemp("lone"), fuse="off"), listener=Heard())


def test_a_grid_of_lone_trials_is_the_runs_of_rayft_train(lone: dict[str, Any]) -> None:
    result = lone

    assert [trial["status"] for trial in result["trials"]] == ["finished"] * 3
    assert {trial["trial"] for trial in result["trials"]} == {0, 1, 2}
    best = load_spec(Path(result["best_spec"]))
    alone = train(best.spec)
    expected = weights(alone["checkpoint"])
    found = weights(result["best"]["checkpoint"])
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name
    assert alone["metrics"]["validation/accuracy"] == result["best"]["value"]
    report = evaluate(result["best"]["checkpoint"], split="validation")
    assert report["metrics"]["validation/accuracy"] == result["best"]["value"]


def assert_nothing_is_left_running() -> None:
    from ray.util.placement_group import placement_group_table

    mine = ray.get_runtime_context().get_job_id()
    actors = ray._private.state.state.actor_table(None).values()
    left = {a["ActorClassName"] for a in actors if a["JobID"] == mine and a["State"] != "DEAD"}
    assert left <= set(KEPT_BY_RAY_DATA)
    groups = placement_group_table().values()
    assert [group for group in groups if group["state"] != "REMOVED"] == []


def test_fused_trials_are_their_lone_runs_within_a_tolerance(
    lone: dict[str, Any], tmp_path: Path
) -> None:
    heard = Heard()
    fused = tune(sweep_of(tmp_path), listener=heard)

    assert_nothing_is_left_running()
    assert [unit.kind for unit in heard.plan.units] == ["fused"]
    by_trial = {trial["trial"]: trial for trial in lone["trials"]}
    for trial in fused["trials"]:
        alone = by_trial[trial["trial"]]
        assert trial["values"] == alone["values"]
        expected, found = weights(alone["checkpoint"]), weights(trial["checkpoint"])
        for name, value in expected.items():
            assert np.allclose(found[name], value, rtol=0, atol=1e-5), name


def test_trials_that_share_phases_begin_from_their_end(tmp_path: Path) -> None:
    space = {"phases.1.lr": "choice([0.001, 0.01])", "phases.1.train": "choice([[all], [heads]])"}
    run = {"phases": [HEADS, ALL]}
    heard = Heard()

    # Members of a fused unit differ from runs alone in the last bits; forked ones must not.
    changes = {"run": run, "space": space, "fuse": "off"}
    shared = tune(sweep_of(tmp_path / "shared", **changes), listener=heard)
    alone = tune(sweep_of(tmp_path / "alone", **changes, share_phases="off"), listener=Heard())

    assert [unit.kind for unit in heard.plan.units] == ["stage"] + ["lone"] * 4
    assert heard.plan.tree.epochs_saved == 3 * 2
    expected = {trial["trial"]: trial for trial in alone["trials"]}
    for trial in shared["trials"]:
        other = expected[trial["trial"]]
        assert trial["metrics"] == other["metrics"]
        found = weights(trial["checkpoint"])
        for name, value in weights(other["checkpoint"]).items():
            assert np.array_equal(found[name], value), name


def test_a_value_that_the_spec_refuses_is_an_invalid_trial(tmp_path: Path) -> None:
    result = tune(sweep_of(tmp_path, space={"phases.0.lr": "choice([0.01, -1])"}), listener=Heard())

    found = {trial["trial"]: trial for trial in result["trials"]}
    assert [found[0]["status"], found[1]["status"]] == ["finished", "invalid"]
    assert "phases.0.lr" in found[1]["reason"]
    assert result["best"]["trial"] == 0


def test_finished_trials_are_not_run_again_and_more_can_be_added(tmp_path: Path) -> None:
    space = {"phases.0.lr": "loguniform(1e-3, 1e-1)"}
    search = {"kind": "random", "num_trials": 2}
    first = tune(sweep_of(tmp_path, space=space, search=search, fuse="off"), listener=Heard())
    heard = Heard()

    again = tune(sweep_of(tmp_path, space=space, search=search, fuse="off"), listener=heard)
    more = tune(
        sweep_of(tmp_path, space=space, search={**search, "num_trials": 3}, fuse="off"),
        listener=Heard(),
    )

    kinds = [event["kind"] for event in heard.events]
    assert "handed" in kinds
    last = len(kinds) - 1 - kinds[::-1].index("opened")
    assert not {"handed", "begun", "reported", "ended"} & set(kinds[last:])
    assert again["trials"] == first["trials"]
    old = {trial["trial"]: trial for trial in first["trials"]}
    for trial in more["trials"]:
        assert old.get(trial["trial"], trial)["metrics"] == trial["metrics"]
    assert len(more["trials"]) == 3


def test_tpe_asks_for_points_by_what_it_was_told(tmp_path: Path) -> None:
    space = {"phases.0.lr": "loguniform(1e-4, 1e-1)"}
    search = {"kind": "tpe", "num_trials": 4, "startup": 2}

    result = tune(sweep_of(tmp_path, space=space, search=search), listener=Heard())

    assert [trial["status"] for trial in result["trials"]] == ["finished"] * 4
    assert len({json.dumps(trial["values"]) for trial in result["trials"]}) == 4


def test_trials_with_two_workers_leave_room_for_ray_data(tmp_path: Path) -> None:
    """Workers of several trials at a time could take all CPUs, and wait for Ray Data for ever."""
    scaling = {"num_workers": 2, "resources_per_worker": {"CPU": 1}}
    loaded = sweep_of(
        tmp_path,
        run={"scaling": scaling, "ingest": "ray_data", "cache": {"mode": "off"}},
        space={"phases.0.lr": "choice([0.01, 0.03])"},
    )
    heard = Heard()

    result = tune(loaded, listener=heard)

    assert heard.plan.slots.number == 1
    assert [trial["status"] for trial in result["trials"]] == ["finished"] * 2


def fillers() -> int:
    actors = ray._private.state.state.actor_table(None).values()
    return sum(actor["ActorClassName"] == "MapWorker(MapBatches(_Actor))" for actor in actors)


def test_what_trials_with_two_workers_keep_is_made_by_actors_that_reserve(tmp_path: Path) -> None:
    """The process of such a trial reserves no GPU, and may be on a node without one."""
    scaling = {"num_workers": 2, "resources_per_worker": {"CPU": 1}}
    run = {"scaling": scaling, "cache": {"mode": "require"}}
    space = {"phases.0.lr": "choice([0.01, 0.03])"}
    before = fillers()

    result = tune(sweep_of(tmp_path, run=run, space=space), listener=Heard())

    assert [trial["status"] for trial in result["trials"]] == ["finished"] * 2
    assert fillers() > before
    assert_nothing_is_left_running()


def test_asha_stops_members_of_a_fused_unit_and_never_the_best(tmp_path: Path) -> None:
    phases = [{**HEADS, "for": "4 epochs"}]
    loaded = sweep_of(
        tmp_path,
        run={"phases": phases},
        space={"phases.0.lr": "choice([1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 1e-6])"},
        scheduler={"kind": "asha", "reduction_factor": 2},
        metric="validation/loss",
    )
    heard = Heard()

    result = tune(loaded, listener=heard)

    assert [unit.kind for unit in heard.plan.units] == ["fused"]
    assert result["counts"].keys() == {"finished", "stopped"}
    assert result["best"]["trial"] in {0, 1, 2}
    for trial in result["trials"]:
        assert (trial["epochs"] == 4) == (trial["status"] == "finished")
        assert Path(trial["checkpoint"], "manifest.json").is_file()


def test_a_journal_that_cannot_be_written_ends_the_sweep_with_a_message(tmp_path: Path) -> None:
    loaded = sweep_of(tmp_path, run={"phases": [{**HEADS, "for": "200 epochs"}]}, fuse="off")
    journal = tmp_path / "sweep" / "sweep.jsonl"

    class Breaks(Heard):
        def on_event(self, event: Any) -> None:
            if event["kind"] == "reported" and journal.is_file():
                journal.rename(tmp_path / "aside.jsonl")
                journal.mkdir()

    with pytest.raises(TrainingError) as caught:
        tune(loaded, listener=Breaks())

    (problem,) = caught.value.problems
    assert problem.where == str(tmp_path / "sweep")
    assert "journal was lost" in problem.what
    assert "\n" not in problem.what
    journal.rmdir()
    (tmp_path / "aside.jsonl").rename(journal)
    assert read_state(open_sweep_journal(Location(str(tmp_path / "sweep"))).read()).trials
