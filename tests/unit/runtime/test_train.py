"""What `rayft train` plans with where nodes must come first."""

import json
from pathlib import Path
from typing import Any

import pytest

from rayft.plan.run_plan import RunPlan
from rayft.runtime import preflight, train
from rayft.runtime.beginning import Beginning
from tests.laws.harness import make_spec
from tests.unit.plan.conftest import cluster

GPU_BYTES = 80 * 2**30
NO_GPU_YET = cluster(max_cpus=None, max_gpus=None)
GPU_CAME = cluster(
    gpus=1.0,
    gpu_memory_bytes=GPU_BYTES,
    max_cpus=None,
    max_gpus=None,
    device="cuda",
)


class Told(train.Silence):
    """Remembers what begins."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def on_stage(self, text: str) -> None:
        self.stages.append(text)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what a run does, in turn: on a cluster whose GPU comes once it is waited for."""
    found: list[Any] = []
    rows = train.prepare_rows

    def run(plan: RunPlan, beginning: Beginning, *rest: Any, **options: Any) -> None:
        found.append(plan)
        beginning.folder.write_result({"status": "finished"})

    monkeypatch.setattr(
        preflight, "cluster_facts", lambda _: GPU_CAME if "waited" in found else NO_GPU_YET
    )
    monkeypatch.setattr(train, "wait_for_room", lambda *_, **options: found.append("waited"))
    monkeypatch.setattr(train, "check_nodes", lambda _: found.append("checked"))
    monkeypatch.setattr(train, "connect_if_told", lambda: False)
    monkeypatch.setattr(train, "start_ray", lambda: False)
    monkeypatch.setattr(
        train, "prepare_rows", lambda *what, **how: rows(*what, **{**how, "use_ray": False})
    )
    monkeypatch.setattr(train, "_run", run)
    return found


def test_a_run_is_planned_with_the_memory_of_the_gpus_that_it_waited_for(
    done: list[Any], tmp_path: Path
) -> None:
    scaling = {"num_workers": 1, "use_gpu": True, "resources_per_worker": {"CPU": 1}}
    told = Told()

    train.train(make_spec(storage_path=str(tmp_path), scaling=scaling), listener=told)

    *steps, plan = done
    assert steps == ["checked", "waited", "checked"]
    assert plan.memory_budget_bytes == GPU_BYTES
    assert plan.max_rows_per_device == 1024
    assert not plan.resources.must_wait
    assert "the workers need 1 GPUs; the cluster has 0" in told.stages[-1]
    pinned = json.loads((tmp_path / "run" / "pinned.json").read_text())
    assert pinned["rows_per_device"] == 1024


def test_nodes_that_are_there_are_not_waited_for(done: list[Any], tmp_path: Path) -> None:
    train.train(make_spec(storage_path=str(tmp_path)))

    *steps, plan = done
    assert steps == ["checked"]
    assert plan.resources.device == "cpu"
