from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rayft.engine.checkpoint import Checkpoint
from rayft.errors import CheckpointError, DataError, TrainingError
from rayft.plan.run_plan import RunPlan
from rayft.runtime.folder import RunFolder, check_writable
from tests.unit.plan.conftest import model_facts, planned, spec

__all__ = ["model_facts", "planned"]

Planned = Callable[..., RunPlan]
CHECKPOINT = Checkpoint(manifest={}, tensors={"model": {"a": torch.zeros(2)}})


def begun(folder: Path, plan: RunPlan) -> RunFolder:
    run = RunFolder(folder, "run")
    run.begin(plan.spec, plan)
    attempt = run.begin_attempt()
    run.checkpoints(keep=2, attempt=attempt).save("step-1", CHECKPOINT, best="step-1")
    return run


def test_the_same_spec_goes_on_and_another_is_refused_with_a_table(
    tmp_path: Path, planned: Planned
) -> None:
    run = begun(tmp_path, planned())

    run.check_same(spec())
    run.check_same(spec(scaling={"num_workers": 4}, ingest="in_process"))
    with pytest.raises(CheckpointError) as caught:
        run.check_same(spec(seed=9, global_batch_size=20))

    assert "seed: 0 -> 9" in str(caught.value)
    assert "global_batch_size: 10 -> 20" in str(caught.value)


def test_before_the_first_checkpoint_there_is_nothing_to_protect(
    tmp_path: Path, planned: Planned
) -> None:
    run = RunFolder(tmp_path, "run")
    run.begin(spec(), planned())

    run.check_same(spec(seed=9))


def test_a_resumed_run_computes_as_it_began(tmp_path: Path, planned: Planned) -> None:
    run = begun(tmp_path, planned(bf16=True))

    pinned = run.pinned(spec())

    assert (pinned.precision, pinned.rows_per_device) == ("bf16", 1024)
    assert pinned.scaling.resources_per_worker == {"CPU": 8.0}
    elsewhere = run.pinned(spec(scaling={"num_workers": 2}))
    assert elsewhere.scaling.resources_per_worker == {}


def test_an_attempt_that_was_replaced_may_not_write(tmp_path: Path, planned: Planned) -> None:
    run = begun(tmp_path, planned())
    stale = run.checkpoints(keep=2, attempt=1)

    run.begin_attempt()

    with pytest.raises(TrainingError, match="attempt 1 was replaced by attempt 2"):
        stale.save("step-2", CHECKPOINT, best=None)
    assert stale.names() == ["step-1"]


def test_one_process_holds_a_run_at_a_time(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path, "run").locked(),
        pytest.raises(CheckpointError, match="is being trained by process"),
        RunFolder(tmp_path, "run").locked(),
    ):
        pass

    with RunFolder(tmp_path, "run").locked():
        assert not (tmp_path / "run").exists()


def test_damaged_checkpoints_are_found_before_anything_starts(
    tmp_path: Path, planned: Planned
) -> None:
    run = begun(tmp_path, planned())
    (run.path / "checkpoints" / "step-1" / "model.safetensors").write_bytes(b"")
    told: list[object] = []

    with pytest.raises(CheckpointError, match="all 1 checkpoints are damaged"):
        run.check_checkpoints(on_damaged=told.append)

    assert len(told) == 1


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="no permission to write"):
        check_writable(tmp_path / "file" / "results")
