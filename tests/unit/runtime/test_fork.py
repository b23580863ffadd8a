"""A fork is complete or invisible, on a disk and in an object store."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.checkpoint_reading import Checkpoint, find_damage, read_checkpoint
from rayft.errors import CheckpointError
from rayft.plan.run_plan import RunPlan
from rayft.runtime.folder import RunFolder
from rayft.runtime.fork import fork
from rayft.storage.location import Location
from tests.unit.plan.conftest import model_facts, planned, spec

__all__ = ["model_facts", "planned"]

Planned = Callable[..., RunPlan]
FRESH = {"phase": 0, "best": None, "num_bad_epochs": 0}


def checkpoint(value: float, plan: RunPlan, *, best: str) -> Checkpoint:
    return Checkpoint(
        manifest={
            "position": {"phase": 1, "step": 0, "steps_done": 22},
            "policies": {
                "best": {"name": best, "best": 0.5, "loss": 1.0},
                "non_finite": {"num_in_a_row": 0, "num_skipped": 3},
            },
            "metrics": {"validation/accuracy": 0.5},
            "spec": {},
            "precision": plan.precision,
            "world_size": plan.resources.world_size,
            "threads_per_worker": plan.resources.threads_per_worker,
        },
        tensors={"model": {"a": torch.full((3,), value)}},
    )


@pytest.fixture
def stage(place: Location, planned: Planned) -> RunFolder:
    run = RunFolder(place, "stage")
    folder = CheckpointFolder(run.place / "checkpoints", keep=1)
    for step, best in ((11, 11), (22, 11)):
        saved = checkpoint(step, planned(), best=f"step-{best:010d}")
        folder.save(f"step-{step:010d}", saved, best=f"step-{best:010d}")
    return run


def own(trial: RunFolder) -> CheckpointFolder:
    return CheckpointFolder(trial.place / "checkpoints")


def test_the_last_and_the_best_checkpoint_become_the_trials_own(
    place: Location, stage: RunFolder, planned: Planned
) -> None:
    trial = RunFolder(place, "trial")

    fork(stage, trial, planned(seed=5), asked=spec(seed=5))

    assert own(trial).names() == own(stage).names() == ["step-0000000011", "step-0000000022"]
    assert own(trial).best() == "step-0000000011"
    for value, name in ((11, "step-0000000011"), (22, "step-0000000022")):
        folder = trial.place / "checkpoints" / name
        assert find_damage(folder) is None
        assert torch.equal(read_checkpoint(folder).tensors["model"]["a"], torch.full((3,), value))
        manifest = read_checkpoint(folder).manifest
        assert manifest["spec"] == planned(seed=5).spec.model_dump(mode="json", by_alias=True)
        assert manifest["rows_per_device"] == planned(seed=5).max_rows_per_device
    trial.check_same(spec(seed=5))
    assert trial.pinned(spec(seed=5)).precision == "fp32"


def test_a_trial_does_not_lose_what_the_stage_deletes(
    place: Location, stage: RunFolder, planned: Planned
) -> None:
    trial = RunFolder(place, "trial")
    fork(stage, trial, planned(), asked=spec())

    stage.place.delete_tree()

    assert find_damage(trial.place / "checkpoints" / "step-0000000022") is None


def test_the_trials_own_policies_have_counted_the_phases(
    place: Location, stage: RunFolder, planned: Planned
) -> None:
    stopping: Any = {"metric": "validation/loss"}
    trial = RunFolder(place, "trial")

    fork(
        stage,
        trial,
        planned(early_stopping=stopping),
        asked=spec(early_stopping=stopping),
    )

    saved = read_checkpoint(trial.place / "checkpoints" / "step-0000000022").manifest["policies"]
    assert isinstance(saved, dict)
    assert saved["early_stopping"] == FRESH
    assert saved["non_finite"] == {"num_in_a_row": 0, "num_skipped": 3}


def test_a_trial_that_went_on_is_left_alone(
    place: Location, stage: RunFolder, planned: Planned
) -> None:
    trial = RunFolder(place, "trial")
    own(trial).save("step-0000000033", checkpoint(33, planned(), best="x"), best=None)

    fork(stage, trial, planned(), asked=spec())

    assert own(trial).names() == ["step-0000000033"]


def test_a_trial_that_is_not_as_far_is_taken_to_the_end_of_the_stage(
    place: Location, stage: RunFolder, planned: Planned
) -> None:
    trial = RunFolder(place, "trial")
    own(trial).save("step-0000000005", checkpoint(5, planned(), best="x"), best=None)

    fork(stage, trial, planned(), asked=spec())

    assert own(trial).names()[-1] == "step-0000000022"


def test_a_stage_without_a_checkpoint_is_refused(place: Location, planned: Planned) -> None:
    with pytest.raises(CheckpointError, match="the stage has no checkpoint yet"):
        fork(RunFolder(place, "stage"), RunFolder(place, "trial"), planned(), asked=spec())


def test_a_damaged_stage_is_refused_and_nothing_is_seen_of_it(
    place: Location, stage: RunFolder, planned: Planned
) -> None:
    folder = stage.place / "checkpoints" / "step-0000000011"
    (name,) = (child for child in folder.children() if child.endswith(".safetensors"))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    trial = RunFolder(place, "trial")

    with pytest.raises(CheckpointError, match="does not match its hash"):
        fork(stage, trial, planned(), asked=spec())

    assert own(trial).names() == []


def test_a_stage_that_computed_otherwise_is_refused(
    place: Location, stage: RunFolder, planned: Planned
) -> None:
    plan = replace(planned(scaling={"num_workers": 2}), precision="bf16")

    with pytest.raises(CheckpointError) as caught:
        fork(stage, RunFolder(place, "trial"), plan, asked=spec())

    assert "precision is 'fp32', and 'bf16' in the trial" in str(caught.value)
    assert "world_size is 1, and 2 in the trial" in str(caught.value)
