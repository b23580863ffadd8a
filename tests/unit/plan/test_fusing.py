"""Which runs can train fused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rayft.plan.facts import ModelFacts, Paces
from rayft.plan.fusing import fuse_key, why_not
from rayft.plan.run_plan import RunPlan
from tests.unit.plan.conftest import FAST, spec

Planned = Callable[..., RunPlan]
FEATURES = replace(FAST, paces={5: Paces(below=100, above=10_000)})
MODEL = spec().model_dump(mode="json")["model"]


@pytest.fixture
def model_facts(model_facts: ModelFacts) -> ModelFacts:
    """Return the facts of a network whose groups make maps, and features at last."""
    shapes = [(8, 16, 16), (8, 16, 16), (16, 8, 8), (32, 4, 4), (10,)]
    groups = zip(model_facts.groups, shapes, strict=True)
    return replace(
        model_facts, groups=tuple(replace(group, output_shape=shape) for group, shape in groups)
    )


def phase(name: str = "probe", **changes: Any) -> dict[str, Any]:
    return {"name": name, "train": ["heads"], "for": "10 epochs", "lr": 0.01, **changes}


def heads(**changes: Any) -> dict[str, Any]:
    return {**MODEL, "heads": {"label": {"kind": "classification", **changes}}}


def key(planned: Planned, **changes: Any) -> str | None:
    return fuse_key(planned(FEATURES, **{"phases": [phase()], **changes}))


FUSIBLE: list[dict[str, Any]] = [
    {"phases": [phase(lr=0.3)]},
    {"phases": [phase(lr={"heads": 0.2})]},
    {"phases": [phase(schedule={"kind": "one_cycle"})]},
    {"schedule": {"kind": "linear", "warmup": "3 steps"}},
    {"optimizer": {"kind": "adamw", "weight_decay": 0.4}},
    {"model": heads(dropout=0.4, label_smoothing=0.1)},
    {"seed": 9},
    {"name": "another", "storage_path": "/elsewhere"},
]
OTHERS: list[dict[str, Any]] = [
    {"phases": [phase(**{"for": "9 epochs"})]},
    {"phases": [phase(), phase("again")]},
    {"optimizer": {"kind": "sgd"}},
    {"optimizer": {"kind": "adamw", "betas": [0.8, 0.999]}},
    {"model": heads(hidden=[8])},
    {"model": heads(norm="layer")},
    {"model": heads(class_weights="auto")},
    {"global_batch_size": 20},
    {"gradient_clip": None},
    {"best_metric": "validation/loss"},
    {"phases": [phase(until={"plateau": "validation/loss"})]},
    {"rows": 104},
    {"cache": {"mode": "require", "dtype": "bf16"}},
]


@pytest.mark.parametrize("changes", FUSIBLE)
def test_runs_that_differ_in_a_heads_own_numbers_can_train_together(
    planned: Planned, changes: dict[str, Any]
) -> None:
    assert key(planned) is not None
    assert key(planned, **changes) == key(planned)


@pytest.mark.parametrize("changes", OTHERS)
def test_runs_that_differ_in_shapes_or_rules_cannot(
    planned: Planned, changes: dict[str, Any]
) -> None:
    other = key(planned, **changes)

    assert other is not None
    assert other != key(planned)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"phases": [phase(train=["heads", "last 1"])]}, "trains layer4, which is no head"),
        (
            {"phases": [phase(train=["all"]), phase("after")]},
            "phase probe trains stem, which is no head",
        ),
        ({"cache": {"mode": "off"}}, "phase probe does not keep features: cache.mode is off"),
        (
            {"augment": [{"kind": "horizontal_flip"}], "phases": [phase(**{"for": "3 epochs"})]},
            "phase probe does not keep features: 3 epochs take new random views",
        ),
        ({"ema": {"decay": 0.9}}, "ema averages"),
        ({"test_time": {"horizontal_flip": True}}, "test_time takes views"),
        ({"reduction": "exact", "global_batch_size": 8}, "reduction: exact"),
        ({"torch_compile": True}, "torch_compile"),
        ({"scaling": {"num_workers": 2}}, "it has 2 workers"),
        ({"optimizer": {"kind": "adamw", "decay_towards": "pretrained"}}, "decay_towards"),
    ],
)
def test_what_stands_against_it_is_said(
    planned: Planned, changes: dict[str, Any], reason: str
) -> None:
    plan = planned(FEATURES, **{"phases": [phase()], **changes})

    assert fuse_key(plan) is None
    assert reason in why_not(plan)


def test_random_backbones_follow_from_the_seed_and_so_must_agree_in_it(
    planned: Planned,
) -> None:
    def of(seed: int) -> str | None:
        plan = planned(FEATURES, phases=[phase()], seed=seed)
        return fuse_key(replace(plan, model=replace(plan.model, pretrained=False)))

    assert of(0) == of(0)
    assert of(0) != of(1)


def test_added_layers_follow_from_the_seed_too(planned: Planned) -> None:
    adapter = {"kind": "adapter", "after": "layer2", "width": 2}
    model = {**MODEL, "backbone": {**MODEL["backbone"], "insert": [adapter]}}

    assert key(planned, model=model) == key(planned, model=model)
    assert key(planned, model=model) != key(planned, model=model, seed=1)
