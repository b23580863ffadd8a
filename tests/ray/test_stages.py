"""A stage on Ray Train workers ends as any run does, and a trial begins from its end."""

from pathlib import Path

import pytest

from rayft.data.prepare import PreparedDataset
from rayft.plan.run_plan import RunPlan
from rayft.plan.stage_keys import stage_plan
from rayft.runtime.folder import RunFolder
from rayft.runtime.fork import fork
from rayft.runtime.job import Job
from rayft.runtime.journal import Event
from rayft.runtime.launch import train_on_ray
from rayft.runtime.nodes import versions_here
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from tests.laws.harness import NOTHING_KEPT, make_spec, make_test_plan, prepare

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.timeout(300),
]


def run(
    plan: RunPlan, prepared: PreparedDataset, folder: Path, *, stops_before: int = 0
) -> tuple[Job, list[Event]]:
    """Run a job on Ray Train workers; the driver's usual steps around it are done here."""
    events: list[Event] = []
    job = Job(
        plan=plan,
        dataset=prepared.ref.to_json(),
        kept=NOTHING_KEPT.to_json(),
        storage_path=str(folder),
        attempt=1,
        versions=versions_here(),
        stops_before=stops_before,
    )
    job.folder.begin_attempt()
    train_on_ray(job, None, events.append, owns_cluster=False)
    return job, events


def test_a_stage_and_what_begins_from_it_on_two_workers(tmp_path: Path) -> None:
    spec = _spec(tmp_path)
    prepared = prepare(spec, tmp_path / "data")
    plan = make_test_plan(spec, prepared)

    stage, heard = run(stage_plan(plan, 1, name="stage"), prepared, tmp_path, stops_before=1)
    result = stage.folder.result()

    assert result is not None
    assert heard[-1]["kind"] == "finished"
    assert heard[-1]["metrics"] == result["metrics"]
    # One attempt of one group of workers: nobody was killed, and nobody began again.
    assert [event["kind"] for event in heard].count("phase") == 1
    assert "test" not in result
    fork(stage.folder, RunFolder(Location(str(tmp_path)), "trial"), plan, asked=spec)
    trial, told = run(plan, prepared, tmp_path)
    ended = trial.folder.result()
    assert ended is not None
    assert [event["index"] for event in told if event["kind"] == "phase"] == [1]
    assert "test" in ended


def _spec(folder: Path) -> RunSpec:
    scaling = {"num_workers": 2, "resources_per_worker": {"CPU": 1}}
    return make_spec(name="trial", storage_path=str(folder), scaling=scaling)
