"""Law 2 for sweeps: a trial that begins from a stage's end equals one that ran all by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.checkpoint_reading import read_checkpoint, read_manifest
from rayft.engine.ports import Json, OneRank
from rayft.errors import CheckpointError
from rayft.models.model import make_model
from rayft.models.weights import LoadedWeights
from rayft.plan.stage_keys import stage_keys, stage_plan
from rayft.plan.stage_tree import grow
from rayft.runtime.folder import RunFolder
from rayft.runtime.fork import fork
from rayft.runtime.job import Job, work
from rayft.runtime.nodes import versions_here
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from tests.laws.harness import (
    NOTHING_KEPT,
    Result,
    keep,
    make_spec,
    make_test_plan,
    run_group,
)
from tests.s3 import s3_server

PROBE: dict[str, Any] = {"name": "probe", "train": ["heads"], "for": "2 epochs", "lr": 0.01}
FINETUNE: dict[str, Any] = {
    "name": "finetune",
    "train": ["heads", "last 3"],
    "for": "2 epochs",
    "lr": {"heads": 0.002, "backbone": 0.001, "decay": 0.7},
}
WRITTEN: dict[str, Any] = make_spec().model_dump(mode="json", by_alias=True)
WITH_DROPOUT = {
    "backbone": WRITTEN["model"]["backbone"],
    "heads": {"label": {"kind": "classification", "dropout": 0.3}},
}
STATEFUL: dict[str, Any] = {
    "ema": {"decay": 0.9},
    "early_stopping": {"metric": "validation/loss", "patience": 3},
    "model": WITH_DROPOUT,
}
"""Everything that has a memory."""


def spec_of(num_workers: int = 1, **changes: Any) -> RunSpec:
    scaling = {"num_workers": num_workers, "resources_per_worker": {"CPU": 1}}
    return make_spec(**{"phases": [PROBE, FINETUNE], "scaling": scaling, **changes})


def other_end(spec: RunSpec, **changes: Any) -> RunSpec:
    """Return a spec that parts from another in its last phase."""
    raw = spec.model_dump(mode="json", by_alias=True)
    raw["phases"][-1] |= {"lr": 0.003, "train": ["heads"], "for": "3 epochs", **changes}
    return RunSpec.model_validate(raw)


class Sweep:
    """The folders of one sweep, and the runs in them."""

    def __init__(self, prepared: PreparedDataset, place: Location) -> None:
        self.prepared = prepared
        self.place = place

    def folder(self, name: str) -> RunFolder:
        return RunFolder(self.place, name)

    def checkpoints(self, name: str) -> CheckpointFolder:
        return CheckpointFolder(self.folder(name).place / "checkpoints")

    def run(self, spec: RunSpec, name: str, **options: Any) -> Result:
        result = run_group(spec, self.prepared, self.folder(name).place / "checkpoints", **options)
        assert result is not None
        assert not result.error
        return result

    def fork(self, stage: str, trial: str, spec: RunSpec, *, stops_before: int = 0) -> None:
        plan = stage_plan(make_test_plan(spec, self.prepared), stops_before)
        fork(self.folder(stage), self.folder(trial), plan, asked=plan.spec)


@pytest.fixture
def sweep(prepared: PreparedDataset, tmp_path: Path) -> Sweep:
    return Sweep(prepared, Location(str(tmp_path)))


def equals(forked: Result, whole: Result) -> None:
    """Check every bit of the state, the figures of the rest, and what was taken for the best."""
    assert forked.digest == whole.digest
    assert forked.metrics == whole.metrics
    assert all(np.array_equal(forked.state[name], value) for name, value in whole.state.items())
    assert forked.rows
    assert forked.rows == whole.rows[-len(forked.rows) :]
    reports = [event for event in forked.events if event["kind"] == "epoch"]
    assert reports == [event for event in whole.events if event["kind"] == "epoch"][-len(reports) :]


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_forked_equals_never_forked(sweep: Sweep, num_workers: int) -> None:
    spec = spec_of(num_workers, **STATEFUL)

    stage = sweep.run(spec, "stage", stops_before=1)
    for trial in (spec, other_end(spec)):
        name = f"trial-{trial.phases[-1].for_.replace(' ', '-')}"
        sweep.fork("stage", name, trial)
        forked = sweep.run(trial, name)

        equals(forked, sweep.run(trial, f"{name}-whole"))
        assert forked.rows[0][:2] == (1, 0)
    # Nobody tested the stage: that is for those that go on from it.
    assert not [name for name in stage.metrics if name.startswith("test/")]
    assert [rows[0] for rows in stage.rows] == [0] * len(stage.rows)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_shared_phase_that_ends_on_a_plateau(sweep: Sweep, num_workers: int) -> None:
    until = {"plateau": "validation/loss", "patience": 1, "min_delta": 1e3}
    spec = spec_of(num_workers, phases=[{**PROBE, "for": "5 epochs", "until": until}, FINETUNE])

    stage = sweep.run(spec, "stage", stops_before=1)
    sweep.fork("stage", "trial", spec)

    ended = [event["step"] for event in stage.events if event["kind"] == "early_end"]
    assert ended == [len(stage.rows)]
    assert len(stage.rows) < make_test_plan(spec, sweep.prepared).phases[0].num_steps
    equals(sweep.run(spec, "trial"), sweep.run(spec, "whole"))


def test_a_shared_phase_that_ends_inside_an_epoch(sweep: Sweep) -> None:
    spec = spec_of(phases=[{**PROBE, "for": "6 steps"}, {**FINETUNE, "for": "7 steps"}])
    plan = make_test_plan(spec, sweep.prepared)
    assert plan.phases[0].num_steps % plan.steps_per_epoch

    sweep.run(spec, "stage", stops_before=1)
    sweep.fork("stage", "trial", spec)

    equals(sweep.run(spec, "trial"), sweep.run(spec, "whole"))


def test_a_rule_that_only_a_later_phase_has(sweep: Sweep) -> None:
    until = {"plateau": "validation/loss", "patience": 1, "min_delta": 1e3}
    spec = spec_of(phases=[PROBE, {**FINETUNE, "for": "4 epochs", "until": until}])
    without = spec_of()

    # The stage is the same whether it is cut from the one or the other.
    sweep.run(without, "stage", stops_before=1)
    for name, trial in (("ends", spec), ("goes on", without)):
        sweep.fork("stage", name, trial)
        equals(sweep.run(trial, name), sweep.run(trial, f"{name} whole"))


def test_the_best_checkpoint_may_be_of_the_stage(sweep: Sweep) -> None:
    # Steps too small to change a weight: the last phase improves nothing.
    still = {**PROBE, "name": "still", "lr": 1e-15}
    spec = spec_of(phases=[{**PROBE, "lr": 1.0}, still], best_metric="validation/loss")

    sweep.run(spec, "stage", stops_before=1)
    sweep.fork("stage", "trial", spec)
    forked, whole = sweep.run(spec, "trial"), sweep.run(spec, "whole")

    equals(forked, whole)
    best = sweep.checkpoints("trial").best()
    assert best == sweep.checkpoints("whole").best()
    manifest = read_manifest(sweep.checkpoints("trial").place / str(best))
    position = manifest["position"]
    assert isinstance(position, dict)
    assert position["steps_done"] <= make_test_plan(spec, sweep.prepared).phases[0].num_steps


def test_stages_that_begin_from_stages(sweep: Sweep) -> None:
    middle = {**PROBE, "name": "middle", "train": ["heads", "last 1"], "for": "1 epochs"}
    spec = spec_of(phases=[PROBE, middle, FINETUNE], **STATEFUL)

    sweep.run(spec, "stage-1", stops_before=1)
    sweep.fork("stage-1", "stage-2", spec, stops_before=2)
    second = sweep.run(spec, "stage-2", stops_before=2)
    sweep.fork("stage-2", "trial", spec)

    assert {rows[0] for rows in second.rows} == {1}
    equals(sweep.run(spec, "trial"), sweep.run(spec, "whole"))


def test_a_fork_in_an_object_store(sweep: Sweep) -> None:
    spec = spec_of(2, **STATEFUL)
    with s3_server() as address:
        remote = Sweep(sweep.prepared, Location(address) / "sweep")

        remote.run(spec, "stage", stops_before=1)
        remote.fork("stage", "trial", spec)
        forked = remote.run(spec, "trial")

    equals(forked, sweep.run(spec, "whole"))


def test_a_stage_whose_frozen_layers_are_kept(
    sweep: Sweep, prepared: PreparedDataset, tmp_path: Path
) -> None:
    flips = [{"kind": "horizontal_flip"}, {"kind": "random_crop", "padding": 3}]
    top = {**FINETUNE, "train": ["heads", "last 2"], "for": "4 epochs"}
    spec = spec_of(
        augment=flips, phases=[{**PROBE, "for": "4 epochs"}, top], cache={"mode": "require"}
    )

    with keep(spec, prepared, tmp_path, stops_before=1) as kept:
        assert set(kept.phases) == {0}
        sweep.run(spec, "stage", stops_before=1, kept=kept)
    sweep.fork("stage", spec.name, spec)
    with keep(spec, prepared, tmp_path) as kept:
        # What the phase that is over wanted is no longer looked for.
        assert set(kept.phases) == {1}
        forked = sweep.run(spec, spec.name, kept=kept)

    equals(forked, sweep.run(spec, "whole"))


def test_what_weights_decay_to_is_handed_on(sweep: Sweep) -> None:
    """A trial that begins from a stage is not given the pretrained weights."""
    backbone = {**WRITTEN["model"]["backbone"], "weights": {"file": "given.safetensors"}}
    decay = {"kind": "adamw", "weight_decay": 20.0, "decay_towards": "pretrained"}
    model = {**WITH_DROPOUT, "backbone": backbone}
    spec = spec_of(model=model, optimizer=decay, phases=[FINETUNE, {**PROBE, "train": ["all"]}])
    pretrained = make_model(spec.model, num_classes=3, seed=99).backbone.net.state_dict()
    given = LoadedWeights(state=pretrained, source="a test", sha256="")

    sweep.run(spec, "stage", stops_before=1, weights=given)
    sweep.fork("stage", "trial", spec)

    equals(sweep.run(spec, "trial"), sweep.run(spec, "whole", weights=given))


def test_killed_in_the_stage_and_right_after_the_fork(sweep: Sweep) -> None:
    spec = spec_of(**STATEFUL)
    places = {name: sweep.checkpoints(name).place for name in ("stage", "trial")}

    assert run_group(spec, sweep.prepared, places["stage"], stops_before=1, kill_after=5) is None
    sweep.run(spec, "stage", stops_before=1)
    # A stage that is over has nothing left to do.
    assert sweep.run(spec, "stage", stops_before=1).rows == []
    sweep.fork("stage", "trial", spec)
    assert run_group(spec, sweep.prepared, places["trial"], kill_after=1) is None
    sweep.fork("stage", "trial", spec)

    equals(sweep.run(spec, "trial"), sweep.run(spec, "whole"))


@pytest.mark.parametrize("again", [True, False], ids=["forked again", "goes on as it is"])
def test_killed_in_the_middle_of_the_fork(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    spec = spec_of(phases=[{**PROBE, "for": "4 epochs", "lr": 1.0}, FINETUNE], **STATEFUL)
    stage = sweep.run(spec, "stage", stops_before=1)
    best = sweep.checkpoints("stage").best()
    assert best != f"step-{len(stage.rows):010d}"
    adopt: Callable[..., None] = CheckpointFolder.adopt

    def killed(self: CheckpointFolder, name: str, *rest: Any) -> None:
        if name != best:
            raise KeyboardInterrupt
        adopt(self, name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointFolder, "adopt", killed)
        with pytest.raises(KeyboardInterrupt):
            sweep.fork("stage", "trial", spec)
    assert sweep.checkpoints("trial").names() == [best]
    if again:
        sweep.fork("stage", "trial", spec)
    forked = sweep.run(spec, "trial")

    equals(forked, sweep.run(spec, "whole"))
    assert (forked.rows[0][0] == 1) == again


def test_a_fork_leaves_the_stage_as_it_is_and_a_trial_that_went_on(sweep: Sweep) -> None:
    spec = spec_of()
    sweep.run(spec, "stage", stops_before=1)
    before = _content(sweep.folder("stage"))

    sweep.fork("stage", "trial", spec)
    forked = _content(sweep.folder("trial"))
    sweep.run(spec, "trial")
    ended = _content(sweep.folder("trial"))
    sweep.fork("stage", "trial", spec)

    assert _content(sweep.folder("stage")) == before
    assert forked != ended == _content(sweep.folder("trial"))


def _content(folder: RunFolder) -> dict[str, bytes]:
    return {file.path: (folder.place / file.path).read_bytes() for file in folder.place.files()}


def test_what_is_forked_is_a_checkpoint_of_the_trial(
    sweep: Sweep, prepared: PreparedDataset
) -> None:
    spec = spec_of(name="trial-0003", precision="auto", **STATEFUL)
    sweep.run(spec, "stage", stops_before=1)
    sweep.fork("stage", spec.name, spec)
    sweep.run(spec, "whole")

    own = read_checkpoint(sweep.folder(spec.name).place / "checkpoints" / "step-0000000008")
    begun = sweep.folder(spec.name)
    begun.check_same(spec)
    pinned = begun.pinned(spec)

    assert own.manifest["spec"] == make_test_plan(spec, prepared).spec.model_dump(
        mode="json", by_alias=True
    )
    assert (pinned.precision, pinned.rows_per_device) == (
        "fp32",
        make_test_plan(spec, prepared).max_rows_per_device,
    )
    assert make_test_plan(pinned, prepared).batches == make_test_plan(spec, prepared).batches
    with pytest.raises(CheckpointError, match="begun with another spec"):
        begun.check_same(other_end(spec))


def test_jobs_of_a_tree_of_stages_come_to_what_whole_runs_come_to(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    in_process = {"scaling": {"num_workers": 0}, "storage_path": str(tmp_path)}
    first = make_spec(**{**STATEFUL, **in_process, "phases": [PROBE, FINETUNE]})
    specs = {
        number: spec.model_copy(update={"name": f"trial-{number:04d}"})
        for number, spec in enumerate([first, other_end(first), other_end(first, lr=0.03)])
    }
    plans = {number: make_test_plan(spec, prepared) for number, spec in specs.items()}
    tree = grow(plans)
    (stage,) = tree.stages
    assert (stage.trials, stage.stops_before) == ((0, 1, 2), 1)

    shared = stage_plan(plans[0], stage.stops_before, name=stage.name)
    job = _job(shared, prepared, tmp_path, stops_before=stage.stops_before)
    metrics = work(job, None, ranks=OneRank(), device=torch.device("cpu"))
    result = job.folder.result()

    assert result is not None
    assert result["metrics"] == metrics
    assert "test" not in result
    assert str(result["checkpoint"]).endswith("step-0000000008")
    assert stage_keys(shared)[-1] == stage.key
    for number, plan in plans.items():
        job = _job(plan, prepared, tmp_path)
        fork(RunFolder(Location(str(tmp_path)), stage.name), job.folder, plan, asked=specs[number])
        work(job, None, ranks=OneRank(), device=torch.device("cpu"))
        whole = _job(plan, prepared, tmp_path / "whole")
        work(whole, None, ranks=OneRank(), device=torch.device("cpu"))
        assert _outcome(job) == _outcome(whole)


def _job(plan: Any, prepared: PreparedDataset, folder: Path, *, stops_before: int = 0) -> Job:
    run = RunFolder(Location(str(folder)), plan.spec.name)
    return Job(
        plan=plan,
        dataset=prepared.ref.to_json(),
        kept=NOTHING_KEPT.to_json(),
        storage_path=str(folder),
        attempt=run.begin_attempt(),
        versions=versions_here(),
        stops_before=stops_before,
    )


def _outcome(job: Job) -> dict[str, Json]:
    result = job.folder.result()
    assert result is not None
    checkpoint = str(result["checkpoint"]).rsplit("/", 1)[-1]
    return {"metrics": result["metrics"], "test": result["test"], "checkpoint": checkpoint}
