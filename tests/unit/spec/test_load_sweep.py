"""Sweeps from YAML: what is wrong is told in words, what is right means what it says."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rayft.errors import Problem, SpecError
from rayft.spec.load import load_spec
from rayft.spec.load_sweep import (
    dump_sweep,
    load_sweep,
    locate,
    run_of,
    sweep_data,
    sweep_from_data,
)
from rayft.spec.space import Choice, LogUniform, Uniform, WholeNumber, canonical
from rayft.spec.sweep import FifoScheduler, SweepSpec

TABLE = yaml.safe_load(Path(__file__).with_name("bad_sweeps.yaml").read_text())


def write(folder: Path, sweep: str = TABLE["good"], run: str = TABLE["run"]) -> Path:
    (folder / "run.yaml").write_text(run)
    (folder / "sweep.yaml").write_text(sweep)
    return folder / "sweep.yaml"


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["case"])
def test_a_wrong_sweep_is_told_in_words(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep, run = TABLE["good"], TABLE["run"]
    if "replace" in case:
        assert case["replace"] in sweep
        sweep = sweep.replace(case["replace"], case["by"], 1)
    if "run" in case:
        assert case["run"]["replace"] in run
        run = run.replace(case["run"]["replace"], case["run"]["by"], 1)
    write(tmp_path, sweep, run)

    with pytest.raises(SpecError) as caught:
        load_sweep(Path("sweep.yaml"), case.get("overrides", ()))

    assert f"{caught.value}\n" == case["message"]
    assert caught.value.exit_code == 2


def test_the_sweep_that_the_cases_spoil_is_good(tmp_path: Path) -> None:
    loaded = load_sweep(write(tmp_path))

    assert loaded.sweep.space == {
        "phases.0.lr": LogUniform(loguniform=(1e-4, 1e-1)),
        "optimizer.weight_decay": Choice(choice=(0.0, 0.05)),
    }
    assert loaded.sweep.scheduler == FifoScheduler()
    assert len(TABLE["cases"]) > 60


def test_the_run_keeps_all_but_its_name_and_its_folder(tmp_path: Path) -> None:
    sweep = TABLE["good"] + "storage_path: here\n"

    loaded = load_sweep(write(tmp_path, sweep))

    alone = load_spec(tmp_path / "run.yaml").spec
    assert loaded.run == alone.model_copy(update={"name": "sweep", "storage_path": "here"})
    assert run_of(loaded.sweep) == loaded.run


def test_a_run_inside_the_sweep_needs_no_name(tmp_path: Path) -> None:
    inside = json.dumps(
        yaml.safe_load(TABLE["run"].replace("name: run\n", "").replace("1e-2", "0.01"))
    )
    sweep = TABLE["good"].replace("run.yaml", inside)

    assert load_sweep(write(tmp_path, sweep)).run == load_sweep(write(tmp_path)).run


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("uniform(0, 1)", Uniform(uniform=(0.0, 1.0))),
        (" loguniform( 1e-5,1 ) ", LogUniform(loguniform=(1e-5, 1.0))),
        ("int(-2, 3)", WholeNumber(int=(-2, 3))),
        ("choice([a, 1, null, true])", Choice(choice=("a", 1, None, True))),
        ("choice([[heads], [heads, last 2]])", Choice(choice=(["heads"], ["heads", "last 2"]))),
        ("choice([1, true])", Choice(choice=(1, True))),
        (
            '"choice([{kind: sgd, momentum: 0.9}])"',
            Choice(choice=({"kind": "sgd", "momentum": 0.9},)),
        ),
        (
            "{choice: [{kind: adamw}, {kind: sgd}]}",
            Choice(choice=({"kind": "adamw"}, {"kind": "sgd"})),
        ),
        ("{loguniform: [1e-5, 1]}", LogUniform(loguniform=(1e-5, 1.0))),
        ("{int: [1, 2]}", WholeNumber(int=(1, 2))),
    ],
)
def test_a_domain_in_its_short_and_its_long_form(tmp_path: Path, text: str, domain: object) -> None:
    sweep = TABLE["good"].replace("loguniform(1e-4, 1e-1)", text)

    assert load_sweep(write(tmp_path, sweep)).sweep.space["phases.0.lr"] == domain


def test_a_path_inside_another_path_of_the_space_is_known_by_the_trials_alone(
    tmp_path: Path,
) -> None:
    sweep = TABLE["good"].replace(
        "optimizer.weight_decay: choice([0.0, 0.05])",
        "phases: {choice: [[{name: a, train: [heads], for: 1 epochs, lr: 1}]]}",
    )

    loaded = load_sweep(write(tmp_path, sweep.replace("phases.0.lr", "phases.3.lr")))

    assert list(loaded.sweep.space) == ["phases.3.lr", "phases"]


def test_overrides_reach_the_sweep_its_space_and_its_run(tmp_path: Path) -> None:
    overrides = [
        "search={kind: tpe, num_trials: 30, seed: 7}",
        "search.startup=5",
        "space.phases.0.lr=uniform(0.1, 0.2)",
        "space.seed=choice([1, 2])",
        "run.phases.0.lr=0.5",
    ]

    loaded = load_sweep(write(tmp_path), overrides)

    assert loaded.sweep.search.model_dump() == {
        "kind": "tpe",
        "num_trials": 30,
        "seed": 7,
        "startup": 5,
    }
    assert loaded.sweep.space["phases.0.lr"] == Uniform(uniform=(0.1, 0.2))
    assert loaded.sweep.space["seed"] == Choice(choice=(1, 2))
    assert loaded.run.phases[0].lr == 0.5


def test_another_run_can_be_named_by_an_override(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "other.yaml").write_text(TABLE["run"].replace("resnet18", "resnet50"))

    loaded = load_sweep(path, ["run.seed=4", "run=other.yaml"])

    assert loaded.run.model.backbone.name == "resnet50"
    assert loaded.run.seed == 4


@pytest.mark.parametrize(
    ("metric", "own", "best"),
    [
        ("validation/loss", None, "validation/loss"),
        ("validation/loss", "validation/macro_f1", "validation/macro_f1"),
        ("validation/accuracy", None, None),
    ],
)
def test_the_metric_of_the_sweep_chooses_the_best_checkpoint_too(
    tmp_path: Path, metric: str, own: str | None, best: str | None
) -> None:
    run = TABLE["run"] + (f"best_metric: {own}\n" if own else "")

    loaded = load_sweep(write(tmp_path, run=run), [f"metric={metric}"])

    assert loaded.run.best_metric == best
    assert run_of(loaded.sweep) == loaded.run


def test_validation_rows_may_come_from_the_space(tmp_path: Path) -> None:
    run = TABLE["run"].replace("  validation: {fraction: 0.1}\n", "")
    sweep = TABLE["good"].replace("optimizer.weight_decay", "data.validation.fraction")

    loaded = load_sweep(write(tmp_path, sweep, run), ["metric=validation/loss"])

    assert loaded.run.data.validation is None
    assert run_of(loaded.sweep) == loaded.run


def test_a_dumped_sweep_needs_no_other_file_and_keeps_what_was_left_out(tmp_path: Path) -> None:
    loaded = load_sweep(write(tmp_path))
    (tmp_path / "dumped").mkdir()
    (tmp_path / "dumped" / "sweep.yaml").write_text(dump_sweep(loaded.sweep))

    again = load_sweep(tmp_path / "dumped" / "sweep.yaml")

    assert (again.sweep, again.run) == (loaded.sweep, loaded.run)
    assert again.run.model_fields_set == loaded.run.model_fields_set
    assert "optimizer" not in sweep_data(loaded.sweep)["run"]  # type: ignore[operator]
    through_json = sweep_from_data(json.loads(json.dumps(sweep_data(loaded.sweep))))
    assert (through_json.sweep, through_json.run) == (loaded.sweep, loaded.run)


def test_the_name_of_a_file_is_no_run(tmp_path: Path) -> None:
    sweep = SweepSpec.model_validate(yaml.safe_load(TABLE["good"]))

    with pytest.raises(SpecError, match=r"'run\.yaml' is a file that was not read"):
        run_of(sweep)


def test_later_problems_are_placed_in_the_file_they_belong_to(tmp_path: Path) -> None:
    loaded = load_sweep(write(tmp_path), ["run.phases.0.lr=0.5"])

    def where(path: str) -> str:
        return locate(Problem(path, "what", "fix"), loaded).where.replace(f"{tmp_path}/", "")

    assert where("search.num_trials") == "sweep.yaml:6 search.num_trials"
    assert where("metric") == "sweep.yaml metric"
    assert where("phases.0.train") == "run.yaml:11 phases.0.train"
    assert where("phases.0.lr") == "override run.phases.0.lr=0.5"
    assert where("row 12") == "row 12"


NUMBERS = st.floats(-1e9, 1e9) | st.integers(-(10**6), 10**6)
PAIRS = st.tuples(NUMBERS, NUMBERS).map(sorted).filter(lambda pair: pair[0] < pair[1])
TEXTS = st.text("abc:- #[]{},'\"?01~", max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(pair=PAIRS, choices=st.lists(VALUES, min_size=1, max_size=4, unique_by=canonical))
def test_any_domain_survives_the_way_through_yaml(
    tmp_path_factory: pytest.TempPathFactory, pair: list[float], choices: list[Any]
) -> None:
    path = write(tmp_path_factory.getbasetemp())
    domains = {"phases.0.lr": {"uniform": pair}, "seed": {"choice": choices}}
    loaded = load_sweep(path, [f"space={json.dumps(domains)}"])

    path.write_text(dump_sweep(loaded.sweep), encoding="utf-8")

    assert load_sweep(path).sweep == loaded.sweep


PIECES = st.sampled_from(
    [
        "uniform",
        "choice",
        "int",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "1",
        "1e400",
        "-",
        "'",
        "#",
    ]
)


@settings(max_examples=200, deadline=None)
@given(text=st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join))
def test_any_text_is_a_domain_or_a_spec_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = write(tmp_path_factory.getbasetemp())
    with contextlib.suppress(SpecError):
        load_sweep(path, [f"space.seed={json.dumps(text, ensure_ascii=False)}"])
