"""Overrides, and specs written and compared."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayft.spec.load import load_spec, spec_from_data
from rayft.spec.overrides import Difference, dump_spec, spec_differences
from rayft.spec.run import RunSpec

GOOD: dict[str, Any] = {
    "name": "run",
    "data": {"train": {"kind": "csv", "path": "rows.csv"}, "validation": {"fraction": 0.1}},
    "model": {
        "backbone": {"kind": "torchvision", "name": "resnet18"},
        "heads": {"label": {"kind": "classification"}},
    },
    "phases": [{"name": "probe", "train": ["heads"], "for": "2 epochs", "lr": {"heads": 1e-2}}],
}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("phases.0.lr.heads=3e-3", "phases.0.lr.heads", 3e-3),
        ("phases.0.for=500 steps", "phases.0.for", "500 steps"),
        ("ema.decay=0.99", "ema.decay", 0.99),
        ("scaling.num_workers=4", "scaling.num_workers", 4),
        ("phases.0.lr.backbone=1e-4", "phases.0.lr.backbone", 1e-4),
        ("scaling.resources_per_worker={CPU: 2}", "scaling.resources_per_worker.CPU", 2.0),
        ("scaling.resources_per_worker.CPU=2", "scaling.resources_per_worker.CPU", 2.0),
        ("data.train.path=a=b.csv", "data.train.path", "a=b.csv"),
        ("phases.0.schedule={kind: constant}", "phases.0.schedule.kind", "constant"),
        ("model.backbone.weights.file=a.pth", "model.backbone.weights.file", "a.pth"),
        ("data.validation.fraction=0.2", "data.validation.fraction", 0.2),
        ("data.normalize=computed", "data.normalize.kind", "computed"),
    ],
)
def test_an_override_changes_one_setting(override: str, path: str, value: object) -> None:
    changed = spec_from_data(GOOD, [override])

    differences = spec_differences(spec_from_data(GOOD), changed)
    assert (path, value) in [(found.path, found.new) for found in differences]


def test_a_list_is_given_in_brackets() -> None:
    spec = spec_from_data(GOOD, ['phases.0.train=[heads,"last 2"]'])

    assert spec.phases[0].train == ("heads", "last 2")


def test_null_takes_a_setting_away() -> None:
    assert spec_from_data(GOOD, ["gradient_clip=null"]).gradient_clip is None
    assert spec_from_data(GOOD, ["data.validation="]).data.validation is None


def test_a_section_that_was_left_out_keeps_the_kind_of_its_default() -> None:
    spec = spec_from_data(GOOD, ["optimizer.weight_decay=0.1", "schedule.warmup=10%"])

    assert (spec.optimizer.kind, spec.optimizer.weight_decay) == ("adamw", 0.1)
    assert (spec.schedule.kind, spec.schedule.warmup) == ("cosine", "10%")


def test_differences_name_every_leaf_in_the_order_of_the_spec() -> None:
    old = spec_from_data(GOOD)
    new = spec_from_data(
        GOOD, ["seed=1", "ema.decay=0.5", "augment=[{kind: rotation, degrees: 9}]"]
    )

    assert spec_differences(old, new) == (
        Difference("seed", 0, 1),
        Difference("augment.0.kind", None, "rotation"),
        Difference("augment.0.degrees", None, 9.0),
        Difference("ema.decay", None, 0.5),
    )
    assert spec_differences(new, old)[0] == Difference("seed", 1, 0)
    assert spec_differences(old, old) == ()


def test_a_truth_value_differs_from_the_number_it_equals() -> None:
    train = {"kind": "python", "function": "a:b", "args": {"x": 1}}
    one = spec_from_data({**GOOD, "data": {"train": train}})
    true = spec_from_data({**GOOD, "data": {"train": {**train, "args": {"x": True}}}})

    assert spec_differences(one, true) == (Difference("data.train.args.x", 1, True),)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ["yes", "true", "null", "~", "1e-3", "007", "<<", "a: b", "- a", "#", "2024-01-01", " a ", ""]
)
RATE = st.floats(min_value=1e-300, allow_infinity=False)
SOURCES = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["folder", "csv", "parquet"]), "path": TEXT}),
    st.fixed_dictionaries(
        {
            "kind": st.just("python"),
            "function": st.just("a.b:c"),
            "args": st.dictionaries(
                TEXT,
                TEXT
                | st.integers()
                | st.booleans()
                | st.floats(allow_nan=False, allow_infinity=False),
            ),
        }
    ),
)


@st.composite
def specs(draw: st.DrawFn) -> RunSpec:
    phase = st.fixed_dictionaries(
        {
            "train": st.lists(TEXT, min_size=1, max_size=3),
            "for": st.sampled_from(["1 epochs", "500 steps"]),
            "lr": RATE | st.dictionaries(TEXT, RATE, max_size=3),
        }
    )
    phases = draw(st.lists(phase, min_size=1, max_size=3))
    split = st.fixed_dictionaries({"fraction": st.floats(0.01, 0.4)})
    weights = (
        TEXT | st.fixed_dictionaries({"file": TEXT}) | st.fixed_dictionaries({"checkpoint": TEXT})
    )
    data = {"train": draw(SOURCES), "validation": draw(st.none() | SOURCES | split)}
    backbone = {"kind": "timm", "name": draw(TEXT), "weights": draw(weights)}
    return RunSpec.model_validate(
        {
            **GOOD,
            "data": data,
            "model": {"backbone": backbone, "heads": GOOD["model"]["heads"]},
            "phases": [{"name": f"p{i}", **phase} for i, phase in enumerate(phases)],
            "seed": draw(st.integers(0, 2**63 - 1)),
            "gradient_clip": draw(st.none() | RATE),
            "storage_path": draw(TEXT),
        }
    )


@settings(max_examples=60, deadline=None)
@given(spec=specs())
def test_a_dumped_spec_loads_back_to_an_equal_one(
    tmp_path_factory: pytest.TempPathFactory, spec: RunSpec
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump_spec(spec), encoding="utf-8", newline="")

    loaded = load_spec(path).spec

    assert loaded == spec
    assert spec_differences(spec, loaded) == ()
    assert dump_spec(loaded) == dump_spec(spec)
