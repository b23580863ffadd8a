from collections.abc import Callable

import pytest
import torch

from rayft.engine.checkpoint_reading import Checkpoint
from rayft.errors import CheckpointError, TrainingError
from rayft.plan.run_plan import RunPlan
from rayft.runtime.folder import RunFolder
from rayft.storage.location import Location
from tests.unit.plan.conftest import model_facts, planned, spec

__all__ = ["model_facts", "planned"]

Planned = Callable[..., RunPlan]
CHECKPOINT = Checkpoint(manifest={}, tensors={"model": {"a": torch.zeros(2)}})


def begun(folder: Location, plan: RunPlan) -> RunFolder:
    run = RunFolder(folder, "run")
    run.begin(plan.spec, plan)
    attempt = run.begin_attempt()
    run.checkpoints(keep=2, attempt=attempt).save("step-1", CHECKPOINT, best="step-1")
    return run


def test_the_same_spec_goes_on_and_another_is_refused_with_a_table(
    place: Location, planned: Planned
) -> None:
    run = begun(place, planned())

    run.check_same(spec())
    run.check_same(spec(scaling={"num_workers": 4}, ingest="in_process"))
    with pytest.raises(CheckpointError) as caught:
        run.check_same(spec(seed=9, global_batch_size=20))

    assert "seed: 0 -> 9" in str(caught.value)
    assert "global_batch_size: 10 -> 20" in str(caught.value)


def test_before_the_first_checkpoint_there_is_nothing_to_protect(
    place: Location, planned: Planned
) -> None:
    run = RunFolder(place, "run")
    run.begin(spec(), planned())

    run.check_same(spec(seed=9))


def test_a_resumed_run_computes_as_it_began(place: Location, planned: Planned) -> None:
    run = begun(place, planned(cpu_bf16=True))

    pinned = run.pinned(spec())

    assert (pinned.precision, pinned.rows_per_device) == ("bf16", 1024)
    assert pinned.scaling.resources_per_worker == {"CPU": 8.0}
    elsewhere = run.pinned(spec(scaling={"num_workers": 2}))
    assert elsewhere.scaling.resources_per_worker == {}


def test_other_rows_at_once_are_taken_where_they_are_asked_for_and_stay(
    place: Location, planned: Planned
) -> None:
    run, fewer = begun(place, planned()), spec(rows_per_device=5)

    run.check_same(fewer)
    assert run.pinned(spec()).rows_per_device == 1024
    assert run.pinned(fewer).rows_per_device == 5
    run.begin(fewer, planned(rows_per_device=5))

    run.check_same(spec())
    assert run.pinned(spec()).rows_per_device == 5
    assert run.pinned(spec()).precision == "fp32"


def test_an_attempt_that_was_replaced_may_not_write(place: Location, planned: Planned) -> None:
    run = begun(place, planned())
    stale = run.checkpoints(keep=2, attempt=1)

    run.begin_attempt()

    with pytest.raises(TrainingError, match="attempt 1 was replaced by attempt 2"):
        stale.save("step-2", CHECKPOINT, best=None)
    assert stale.names() == ["step-1"]


def test_one_process_holds_a_run_at_a_time(place: Location) -> None:
    with (
        RunFolder(place, "run").locked(),
        pytest.raises(CheckpointError, match="is being trained by process"),
        RunFolder(place, "run").locked(),
    ):
        pass

    with RunFolder(place, "run").locked():
        assert (place / "run").children() == []


def test_damaged_checkpoints_are_found_before_anything_starts(
    place: Location, planned: Planned
) -> None:
    run = begun(place, planned())
    (run.place / "checkpoints" / "step-1" / "manifest.json").write_bytes(b"")
    told: list[object] = []

    with pytest.raises(CheckpointError, match="all 1 checkpoints are damaged"):
        run.check_checkpoints(on_damaged=told.append)

    assert len(told) == 1
