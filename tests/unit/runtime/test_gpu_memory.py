"""Wherever a model computes, a GPU whose memory is too small is told as such, once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from rayft.engine import evaluation, fill, step
from rayft.engine.placing import DeviceBatch
from rayft.engine.ports import OneRank
from rayft.errors import TrainingError
from rayft.feed.prepare import Batch
from rayft.plan.run_plan import RunPlan
from rayft.plan.trials import Unit
from rayft.runtime import evaluate, find_lr, job
from rayft.runtime.preflight import Places
from rayft.runtime.sweep_folder import SweepFolder
from rayft.runtime.train import train
from rayft.runtime.trial_run import UnitRunner
from rayft.runtime.unit_work import UnitWork
from rayft.storage.location import Location
from tests.laws.harness import keep, make_spec, prepare
from tests.unit.plan.conftest import model_facts, planned
from tests.unit.runtime.predicting import make_checkpoint

__all__ = ["model_facts", "planned"]

PROBE = {"name": "probe", "train": ["heads"], "for": "2 epochs", "lr": 0.01}


def ends(*args: Any, **kwargs: Any) -> NoReturn:
    """Stand for whatever computes."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. And so on")


def test_a_worker_ends_the_attempt_so_that_ray_does_not_try_again(
    planned: Callable[..., RunPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_work", ends)
    attempt = job.Job(
        plan=planned(scaling={"num_workers": 0}),
        dataset="",
        kept="",
        storage_path=str(tmp_path),
        attempt=1,
        versions={},
    )
    attempt.folder.begin_attempt()

    with pytest.raises(TrainingError, match="rows_per_device is 1024"):
        job.work(attempt, None, ranks=OneRank(), device=torch.device("cpu"))
    again = job.work(attempt, None, ranks=OneRank(), device=torch.device("cpu"))

    assert again == {}
    (line,) = (tmp_path / "test" / "journal.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event["kind"] == "failed"
    assert event["problems"][0][0] == "rows_per_device"
    assert event["problems"][0][2].startswith("set rows_per_device to 5;")


def test_a_run_whose_later_phase_did_not_fit_goes_on_with_the_number_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = step.place

    def placed(batch: Batch, **where: Any) -> DeviceBatch:
        if batch.ticket.phase == 1 and len(batch.labels) > 8:
            ends()
        return place(batch, **where)

    monkeypatch.setattr(step, "place", placed)
    spec = make_spec(storage_path=str(tmp_path), scaling={"num_workers": 0})

    with pytest.raises(TrainingError, match="set rows_per_device to 8;"):
        train(spec)
    result = train(spec.model_copy(update={"rows_per_device": 8}))

    assert result["status"] == "finished"
    lines = (tmp_path / "run" / "journal.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert (kinds.count("failed"), kinds.count("changed"), kinds[-1]) == (1, 1, "finished")


def test_an_evaluation_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_checkpoint(Location(str(tmp_path / "run")), storage_path=str(tmp_path))
    monkeypatch.setattr(evaluate, "_check_classes", lambda *known: None)
    monkeypatch.setattr(evaluation, "place", ends)

    with pytest.raises(TrainingError, match="set rows_per_device to 64;"):
        evaluate.evaluate(str(run))


def test_a_range_test_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_lr, "run_range_test", ends)

    with pytest.raises(TrainingError, match="set rows_per_device to 8;"):
        find_lr.find_lr(make_spec(storage_path=str(tmp_path)))


def test_who_fills_what_is_kept_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(phases=[PROBE], augment=[], cache={"mode": "require"})
    monkeypatch.setattr(fill, "place", ends)

    with (
        pytest.raises(TrainingError, match="set rows_per_device to 8;"),
        keep(spec, prepare(spec, tmp_path / "rows"), tmp_path),
    ):
        pass


def test_a_trial_that_ran_out_of_it_leaves_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Location(str(tmp_path))
    runner = UnitRunner(SweepFolder(storage), Places(tmp_path, storage))
    unit = Unit(name="trial-0000", trials=(0,), kind="lone")

    def fails(*args: Any) -> NoReturn:
        raise TrainingError from torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(runner, "_one", fails)
    runner.run(UnitWork(unit=unit, members=()), lambda reports: frozenset(), frozenset())

    assert runner.is_spoilt
