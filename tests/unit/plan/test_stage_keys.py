"""A key of a stage holds all that the state after it depends on, and nothing of what follows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from rayft.engine.policies import stop_rules
from rayft.plan.run_plan import RunPlan
from rayft.plan.stage_keys import stage_keys, stage_plan
from rayft.spec.load import spec_from_data
from rayft.spec.overrides import dump_spec
from rayft.spec.run import RunSpec
from tests.unit.plan.conftest import spec

Planned = Callable[..., RunPlan]

WRITTEN: dict[str, Any] = spec().model_dump(mode="json", by_alias=True)
PROBE, FINETUNE = WRITTEN["phases"]
DATA, MODEL = WRITTEN["data"], WRITTEN["model"]
HEAD = {"kind": "classification"}
PLATEAU = {"plateau": "validation/loss", "patience": 2}
STOPPING = {"metric": "validation/loss", "patience": 2}


def probe(**changes: Any) -> dict[str, Any]:
    return {"phases": [{**PROBE, **changes}, FINETUNE]}


def finetune(**changes: Any) -> dict[str, Any]:
    return {"phases": [PROBE, {**FINETUNE, **changes}]}


def head(**changes: Any) -> dict[str, Any]:
    return {"model": {**MODEL, "heads": {"label": {**HEAD, **changes}}}}


EVERYWHERE: dict[str, dict[str, Any]] = {
    "seed": {"seed": 9},
    "rows": {"rows": 104},
    "split": {"data": {**DATA, "validation": {"fraction": 0.3}}},
    "order": {"data": {**DATA, "order": "balanced"}},
    "augment": {"augment": [{"kind": "horizontal_flip"}]},
    "mix": {"mix": [{"kind": "mixup"}]},
    "weights": {"model": {**MODEL, "backbone": {**MODEL["backbone"], "weights": "none"}}},
    "dropout": head(dropout=0.1),
    "label smoothing": head(label_smoothing=0.1),
    "class weights": head(class_weights="auto"),
    "optimizer": {"optimizer": {"kind": "sgd"}},
    "weight decay": {"optimizer": {"kind": "adamw", "weight_decay": 0.2}},
    "clip": {"gradient_clip": None},
    "batch": {"global_batch_size": 20},
    "rows at once": {"rows_per_device": 5},
    "batch norm": {"batch_norm": "local"},
    "averages": {"ema": {"decay": 0.9}},
    "stopping": {"early_stopping": STOPPING},
    "views in evaluation": {"test_time": {"horizontal_flip": True}},
    "best metric": {"best_metric": "validation/loss"},
    "precision": {"precision": "bf16"},
    "precision of the device": {"cpu_bf16": True},
    "memory format": {"memory_format": "contiguous"},
    "compile": {"torch_compile": True},
    "reduction": {"reduction": {"kind": "exact", "shards": 2}},
    "workers": {"scaling": {"num_workers": 2}},
    "threads": {"scaling": {"num_workers": 1, "resources_per_worker": {"CPU": 2}}},
    "schedule": {"schedule": {"kind": "linear"}},
    "warm-up": {"schedule": {"kind": "cosine", "warmup": "3 steps"}},
    "what trains first": probe(train=["all"]),
    "first rate": probe(lr=0.02),
    "first length": probe(**{"for": "3 epochs"}),
    "first schedule": probe(schedule={"kind": "constant"}),
    "first ending": probe(until=PLATEAU),
    "first size": probe(image_size=16),
}
"""Changes that the state after every phase depends on."""

LATER: dict[str, dict[str, Any]] = {
    "what trains later": finetune(train=["heads", "last 3"]),
    "later rate": finetune(lr=0.5),
    "later length": finetune(**{"for": "16 steps"}),
    "later schedule": finetune(schedule={"kind": "constant"}),
    "later ending": finetune(until=PLATEAU),
    "later size": finetune(image_size=16),
}
"""Changes of the second of two phases."""

NOWHERE: dict[str, dict[str, Any]] = {
    "name": {"name": "other"},
    "place": {"storage_path": "/elsewhere"},
    "checkpoints": {"checkpoint": {"interval_s": 3, "keep": 7}},
    "ingest": {"ingest": "in_process"},
    "failures": {"scaling": {"max_failures": 9, "wait_s": 5}},
    "budget": {"cache": {"budget": "1 GB"}},
    "nothing kept": {"cache": {"mode": "off"}},
    "the default said": {"best_metric": "validation/accuracy", "device": "cpu"},
    "names": {"phases": [{**PROBE, "name": "a"}, {**FINETUNE, "name": "b"}]},
    "a rate for each group": probe(lr={"heads": PROBE["lr"]}),
    "the run's schedule said in each phase": {
        "schedule": {"kind": "linear"},
        "phases": [{**phase, "schedule": WRITTEN["schedule"]} for phase in (PROBE, FINETUNE)],
    },
    "shares of a run": {
        "total": "37 steps",
        "phases": [{**PROBE, "for": "59.4%"}, {**FINETUNE, "for": "40.6%"}],
    },
}
"""Changes that no state depends on."""


@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_every_state_depends_on_is_in_every_key(planned: Planned, name: str) -> None:
    before, after = stage_keys(planned()), stage_keys(planned(**EVERYWHERE[name]))

    assert len(before) == len(after) == 2
    assert not {*before} & {*after}


@pytest.mark.parametrize("name", LATER)
def test_a_key_holds_nothing_of_later_phases(planned: Planned, name: str) -> None:
    before, after = stage_keys(planned()), stage_keys(planned(**LATER[name]))

    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("name", NOWHERE)
def test_what_no_state_depends_on_is_in_no_key(planned: Planned, name: str) -> None:
    assert stage_keys(planned()) == stage_keys(planned(**NOWHERE[name]))


PLANNED: dict[str, Callable[[RunPlan], RunPlan]] = {
    "device": lambda p: replace(p, resources=replace(p.resources, device="cuda")),
    "workers": lambda p: replace(p, resources=replace(p.resources, num_workers=2)),
    "threads": lambda p: replace(p, resources=replace(p.resources, threads_per_worker=2)),
    "shards": lambda p: replace(p, batches=replace(p.batches, num_shards=2)),
    "precision": lambda p: replace(p, precision="bf16"),
    "rows in evaluation": lambda p: replace(p, evaluation_rows=7),
    "order": lambda p: replace(p, order=replace(p.order, shards_per_window=2)),
    "mean": lambda p: replace(p, model=replace(p.model, mean=(0.1, 0.2, 0.3))),
    "class weights": lambda p: replace(p, class_weights={"label": (1.0, 2.0)}),
    "steps": lambda p: replace(
        p, phases=tuple(replace(phase, num_steps=phase.num_steps + 1) for phase in p.phases)
    ),
}
"""What may follow from the machine, the data or a later phase."""


@pytest.mark.parametrize("name", PLANNED)
def test_what_the_plan_made_of_it_is_in_every_key(planned: Planned, name: str) -> None:
    before, after = stage_keys(planned()), stage_keys(PLANNED[name](planned()))

    assert not {*before} & {*after}


def test_every_setting_of_a_run_was_thought_of() -> None:
    """A new one is in the keys by itself; this asks for a line above."""
    tried = {name for changes in (EVERYWHERE, NOWHERE) for c in changes.values() for name in c}

    assert set(RunSpec.model_fields) - tried == {"augment_on"}


def test_an_ending_of_the_run_and_of_a_phase_are_the_same(planned: Planned) -> None:
    of_run = planned(early_stopping=STOPPING)
    of_phases = planned(phases=[{**phase, "until": PLATEAU} for phase in (PROBE, FINETUNE)])

    assert stage_keys(of_run) == stage_keys(of_phases)


def with_prefix(plan: RunPlan, **changes: Any) -> RunPlan:
    first, *rest = plan.phases
    assert first.prefix is not None
    return replace(plan, phases=(replace(first, prefix=replace(first.prefix, **changes)), *rest))


@pytest.mark.parametrize(
    "changes", [{"cut": 1}, {"rows": 4}, {"views": 2}, {"dtype": "bf16"}], ids=str
)
def test_what_a_frozen_prefix_makes_is_in_a_key(planned: Planned, changes: Any) -> None:
    assert stage_keys(planned())[0] != stage_keys(with_prefix(planned(), **changes))[0]


def test_whether_it_is_kept_is_not(planned: Planned) -> None:
    kept = with_prefix(planned(), keeps=True, reason="it pays", bytes=7, epoch_s=1.0, fill_s=2.0)

    assert stage_keys(kept) == stage_keys(planned())


def test_where_images_are_changed_is_in_every_key(planned: Planned) -> None:
    flips = [{"kind": "horizontal_flip"}]
    host, device = (stage_keys(planned(augment=flips, augment_on=o)) for o in ("host", "device"))

    assert not {*host} & {*device}


def test_a_thaw_is_a_boundary(planned: Planned) -> None:
    thawing = {**FINETUNE, "for": "4 epochs", "unfreeze": {"by": "1 group", "every": "1 epochs"}}
    longer = {**thawing, "for": "5 epochs"}

    one = stage_keys(planned(phases=[PROBE, thawing]))
    other = stage_keys(planned(phases=[PROBE, longer]))

    assert len(one) == len(other) == 4
    assert one[:-1] == other[:-1]
    assert one[-1] != other[-1]


def test_keys_follow_from_what_came_before(planned: Planned) -> None:
    twice = stage_keys(planned(phases=[PROBE, {**PROBE, "name": "again"}]))

    assert twice[0] != twice[1]
    assert twice[0] == stage_keys(planned())[0]


def test_a_stage_is_a_run_with_fewer_phases(planned: Planned) -> None:
    plan = planned(early_stopping=STOPPING, schedule={"kind": "linear"})

    stage = stage_plan(plan, 1, name="stage-1", storage_path="/sweep/stages")

    assert stage.phases == plan.phases[:1]
    assert stage.batches == plan.batches
    assert (stage.spec.name, stage.spec.storage_path) == ("stage-1", "/sweep/stages")
    assert stage_keys(stage) == stage_keys(plan)[:1]
    assert stop_rules(stage.spec)[0] is not None
    assert spec_from_data(yaml.safe_load(dump_spec(stage.spec)), ()) == stage.spec
    assert stage_plan(stage, 1) == stage
    assert stage_plan(plan, 0) == plan


@pytest.mark.parametrize("name", LATER)
def test_whichever_run_is_cut_the_stage_is_the_same(planned: Planned, name: str) -> None:
    one, other = stage_plan(planned(), 1), stage_plan(planned(**LATER[name]), 1)

    assert one.spec == other.spec
