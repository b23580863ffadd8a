"""A checkpoint is evaluated on any machine, wherever it was trained."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rayft.data.prepare import PreparedDataset
from rayft.errors import ClusterError, SpecError
from rayft.feed.feed import InProcessFeed
from rayft.plan.run_plan import RunPlan
from rayft.runtime import preflight
from rayft.runtime.evaluate import evaluate
from rayft.runtime.train import train
from rayft.spec.run import RunSpec
from tests.laws.harness import make_spec, run_group

HERE = {"num_workers": 0, "use_gpu": "auto", "resources_per_worker": {"CPU": 1}}
ON_GPUS = {
    "device": "cuda",
    "batch_norm": "sync",
    "augment_on": "device",
    "torch_compile": True,
    "ingest": "ray_data",
    "scaling": {"num_workers": 8, "use_gpu": True, "resources_per_worker": {"CPU": 1, "GPU": 1}},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a run on CPUs, and what it found."""
    folder = tmp_path_factory.mktemp("results")
    found = train(make_spec(storage_path=str(folder), device="cpu", scaling=HERE))
    return folder / "run", found


def said(run: Path, settings: dict[str, Any]) -> Path:
    """Let the checkpoints of a run say that it was trained with other settings."""
    for file in run.glob("checkpoints/*/manifest.json"):
        manifest = json.loads(file.read_text())
        manifest["spec"] |= settings
        file.write_text(json.dumps(manifest))
    return run


def has(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    """Let this machine have something else."""
    own = preflight.own_facts
    monkeypatch.setattr(preflight, "own_facts", lambda place: replace(own(place), **facts))


def has_gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    device = "cuda" if number else "cpu"
    has(monkeypatch, gpus=float(number), max_gpus=float(number), device=device)


def test_what_was_trained_on_gpus_is_evaluated_without_one(
    trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, found = trained
    has_gpus(monkeypatch, 0)

    evaluated = evaluate(said(run, ON_GPUS))

    assert evaluated["metrics"]["test/loss"] == found["metrics"]["test/loss"]
    with pytest.raises(ClusterError, match="device: a GPU is asked for"):
        evaluate(run, overrides=["device=cuda"])


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        ({"device": "cpu", "scaling": HERE}, []),
        ({"device": "auto", "scaling": {**HERE, "use_gpu": False}}, []),
        (ON_GPUS, ["device=cpu"]),
    ],
)
def test_gpus_are_left_alone_where_that_was_asked_for(
    trained: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    overrides: list[str],
) -> None:
    run, found = trained
    has_gpus(monkeypatch, 1)

    evaluated = evaluate(said(run, settings), overrides=overrides)

    assert evaluated["metrics"]["test/loss"] == found["metrics"]["test/loss"]


def test_a_cluster_that_this_process_is_connected_to_does_not_count(
    trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, found = trained
    gpus = {"gpus": 8.0, "max_gpus": 8.0, "device": "cuda"}
    facts = preflight.cluster_facts
    monkeypatch.setattr(preflight, "cluster_facts", lambda place: replace(facts(place), **gpus))

    evaluated = evaluate(said(run, ON_GPUS))

    assert evaluated["metrics"]["test/loss"] == found["metrics"]["test/loss"]


@pytest.mark.parametrize("reduction", ["mean", "exact"])
def test_memory_that_training_would_need_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reduction: str
) -> None:
    spec = make_spec(storage_path=str(tmp_path), device="cpu", scaling=HERE, reduction=reduction)
    found = train(spec)
    has(monkeypatch, memory_bytes=2**20, nodes=())

    with pytest.raises(SpecError, match="one row needs about"):
        train(spec.model_copy(update={"name": "other"}))
    evaluated = evaluate(tmp_path / "run")
    in_fewer_rows = evaluate(tmp_path / "run", overrides=["rows_per_device=3"])

    assert evaluated["metrics"]["test/loss"] == found["metrics"]["test/loss"]
    expected = pytest.approx(found["metrics"]["test/loss"], rel=1e-5)
    assert in_fewer_rows["metrics"]["test/loss"] == expected


def probe(folder: Path, **changes: Any) -> RunSpec:
    """Train the head of a network whose last bits depend on the rows of a batch."""
    model = make_spec().model_dump(mode="json")["model"]
    model["backbone"]["name"] = "test_resnet"
    return make_spec(
        storage_path=str(folder),
        device="cpu",
        global_batch_size=32,
        model=model,
        phases=[{"name": "probe", "train": ["heads"], "for": "1 epochs", "lr": 0.01}],
        **changes,
    )


@pytest.mark.parametrize(("num_workers", "rows"), [(1, 32), (2, 16), (4, 8)])
def test_the_figures_are_those_of_any_number_of_workers(
    tmp_path: Path, prepared: PreparedDataset, num_workers: int, rows: int
) -> None:
    scaling = {"num_workers": num_workers, "resources_per_worker": {"CPU": 1}}

    found = run_group(probe(tmp_path, scaling=scaling), prepared, tmp_path / "run/checkpoints")

    assert found
    evaluated = evaluate(tmp_path / "run")
    manifest = json.loads((Path(evaluated["checkpoint"]) / "manifest.json").read_text())
    assert manifest["prefix"]["rows"] == rows
    assert evaluated["metrics"]["test/loss"] == found.metrics["test/loss"]


def test_a_frozen_prefix_runs_on_batches_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = probe(tmp_path, reduction="exact", scaling={**HERE, "resources_per_worker": {}})
    found = train(spec)["metrics"]["test/loss"]

    seen: list[int] = []

    def feed(plan: RunPlan, *arguments: Any, **options: Any) -> InProcessFeed:
        prefix = plan.phases[-1].prefix
        assert prefix
        seen.append(prefix.rows)
        return InProcessFeed(plan, *arguments, **options)

    monkeypatch.setattr("rayft.runtime.evaluate.InProcessFeed", feed)
    (file,) = tmp_path.glob("run/checkpoints/*/manifest.json")
    manifest = json.loads(file.read_text())
    assert evaluate(tmp_path / "run")["metrics"]["test/loss"] == found
    # Checkpoints of before did not say; the first ones nothing of a prefix at all.
    assert manifest["prefix"].pop("rows") == 8
    file.write_text(json.dumps(manifest))
    assert evaluate(tmp_path / "run")["metrics"]["test/loss"] == found
    del manifest["prefix"]
    file.write_text(json.dumps(manifest))
    assert evaluate(tmp_path / "run")["metrics"]["test/loss"] == found
    assert seen == [8, 8, 8]


def test_an_exact_run_is_evaluated_with_the_threads_that_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for name, given in (("two", {"CPU": 2}), ("open", {})):
        scaling = {**HERE, "resources_per_worker": given}
        train(make_spec(storage_path=str(tmp_path), name=name, reduction="exact", scaling=scaling))
        threads.clear()
        evaluate(tmp_path / name)
        assert threads[-1] == (2 if given else 1)
