"""Points of a space, and the run that each makes."""

import itertools
import json
import pickle
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayft.errors import SpecError
from rayft.plan.sampling import (
    grid_points,
    key_of,
    num_points,
    own_values,
    random_point,
    random_values,
    trial_spec,
)
from rayft.plan.trials import Point
from rayft.spec.load import spec_from_data
from rayft.spec.run import RunSpec
from rayft.spec.sweep import SweepSpec

RUN: dict[str, Any] = {
    "name": "run",
    "data": {"train": {"kind": "csv", "path": "rows.csv"}, "validation": {"fraction": 0.1}},
    "model": {
        "backbone": {"kind": "torchvision", "name": "resnet18"},
        "heads": {"label": {"kind": "classification"}},
    },
    "phases": [
        {"name": "probe", "train": ["heads"], "for": "2 epochs", "lr": 0.01},
        {"name": "tune", "train": ["all"], "for": "2 epochs", "lr": {"heads": 0.01, "all": 0.001}},
    ],
}


def run() -> RunSpec:
    return spec_from_data(RUN)


def sweep(space: dict[str, str], kind: str = "random", **search: Any) -> SweepSpec:
    search = {"kind": kind} | ({} if kind == "grid" else {"num_trials": 20} | search)
    return SweepSpec.model_validate({"name": "s", "run": RUN, "space": space, "search": search})


def made(values: dict[str, Any], of: RunSpec | None = None) -> RunSpec:
    return trial_spec(of or run(), Point(trial=3, values=values), name="t", storage_path="at")


def test_a_grid_is_every_combination_after_the_runs_own() -> None:
    grid = sweep({"seed": "choice([1, 2])", "phases.0.train": "choice([[all], [heads]])"}, "grid")

    points = grid_points(grid, run())

    assert [point.trial for point in points] == [0, 1, 2, 3, 4]
    assert [dict(point.values) for point in points] == [
        {},
        {"seed": 1, "phases.0.train": ["all"]},
        {"seed": 1, "phases.0.train": ["heads"]},
        {"seed": 2, "phases.0.train": ["all"]},
        {"seed": 2, "phases.0.train": ["heads"]},
    ]


@pytest.mark.parametrize(
    "space",
    [
        {"phases.0.lr": "choice([1e-3, 1e-2])", "seed": "choice([0, 1])"},
        # Another way to write what the run has.
        {"optimizer": "choice([{kind: adamw}, {kind: sgd}])", "seed": "choice([0, 1])"},
        {"ema": "choice([null, {decay: 0.9}])", "gradient_clip": "choice([1, 2])"},
        {"reduction": "choice([mean, exact])", "seed": "choice([0, 1])"},
    ],
)
def test_a_grid_leaves_out_what_the_run_has_anyway(space: dict[str, str]) -> None:
    points = grid_points(sweep(space, "grid"), run())

    assert len(points) == 4
    assert all(made(dict(point.values)) != made({}) for point in points[1:])


def test_a_grid_of_a_range_is_refused() -> None:
    with pytest.raises(SpecError, match=r"space\.phases\.0\.lr: a grid needs a list"):
        grid_points(sweep({"phases.0.lr": "uniform(0, 1)"}, "grid"), run())


@given(seed=st.integers(0, 2**63 - 1), trial=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_random_point_lies_in_the_space_and_follows_from_seed_and_trial(
    seed: int, trial: int
) -> None:
    space = {
        "phases.0.lr": "loguniform(1e-4, 1e-1)",
        "optimizer.weight_decay": "uniform(0, 0.1)",
        "global_batch_size": "int(8, 9)",
        "phases.1.train": "choice([[all], [heads, last 2]])",
    }
    random = sweep(space, seed=seed)

    point = random_point(random, trial)

    assert point == random_point(sweep(space, seed=seed), trial)
    assert point.trial == trial
    assert list(point.values) == list(space)
    assert 1e-4 <= point.values["phases.0.lr"] <= 1e-1
    assert 0 <= point.values["optimizer.weight_decay"] <= 0.1
    assert point.values["global_batch_size"] in (8, 9)
    assert point.values["phases.1.train"] in (["all"], ["heads", "last 2"])
    assert json.loads(json.dumps(point.values)) == point.values


def test_points_differ_between_trials_and_seeds_and_stay_when_a_setting_is_added() -> None:
    space = {"phases.0.lr": "loguniform(1e-4, 1e-1)"}
    rates = [random_point(sweep(space), n).values["phases.0.lr"] for n in range(1, 30)]

    assert len(set(rates)) == 29
    assert random_point(sweep(space, seed=1), 1).values["phases.0.lr"] not in rates
    wider = sweep(space | {"optimizer.weight_decay": "uniform(0, 1)"})
    assert random_point(wider, 5).values["phases.0.lr"] == rates[4]


def test_rates_are_as_likely_in_every_power_of_ten() -> None:
    draws = random_values(sweep({"phases.0.lr": "loguniform(1e-4, 1e-1)"}))

    powers = Counter(int(f"{v['phases.0.lr']:e}"[-1]) for v in itertools.islice(draws, 3000))

    assert set(powers) == {2, 3, 4}
    assert all(900 < count < 1100 for count in powers.values())


@given(
    seed=st.integers(0, 1000),
    choices=st.integers(1, 5),
    low=st.integers(-3, 3),
    more=st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_a_finite_space_is_drawn_to_its_end_without_repeating(
    seed: int, choices: int, low: int, more: int
) -> None:
    values = ", ".join(str(n) for n in range(choices))
    finite = sweep({"seed": f"choice([{values}])", "total": f"int({low}, {low + more})"}, seed=seed)

    drawn = [key_of(values) for values in random_values(finite)]

    assert num_points(finite) == choices * (more + 1) == len(drawn) == len(set(drawn))
    assert key_of(random_point(finite, len(drawn)).values) == drawn[-1]
    with pytest.raises(IndexError, match=f"only {len(drawn)} points"):
        random_point(finite, len(drawn) + 1)


def test_a_finite_space_of_any_size_is_drawn_from_at_once() -> None:
    huge = sweep({"seed": "int(0, 9223372036854775806)", "total": "int(1, 9223372036854775806)"})

    assert num_points(huge) == (2**63 - 1) * (2**63 - 2)
    assert len({key_of(random_point(huge, n).values) for n in range(1, 50)}) == 49


def test_every_order_of_a_finite_space_is_as_likely() -> None:
    space = {"seed": "choice([1, 2, 3])"}
    orders = Counter(
        tuple(values["seed"] for values in random_values(sweep(space, seed=seed)))
        for seed in range(1200)
    )

    assert len(orders) == 6
    assert all(150 < count < 250 for count in orders.values())


def test_the_first_trial_has_the_runs_own_values() -> None:
    assert random_point(sweep({"seed": "int(0, 5)"}), 0) == Point(trial=0, values={})
    assert made({}) == run().model_copy(update={"name": "t", "storage_path": "at"})


@pytest.mark.parametrize(
    ("space", "own"),
    [
        ({"phases.0.lr": "loguniform(1e-3, 1)"}, {"phases.0.lr": 0.01}),
        ({"phases.0.lr": "loguniform(0.1, 1)"}, None),
        ({"seed": "int(0, 3)", "gradient_clip": "uniform(0, 2)"}, {"seed": 0, "gradient_clip": 1}),
        ({"seed": "int(1, 3)"}, None),
        ({"optimizer": "choice([{kind: sgd}, {kind: adamw}])"}, {"optimizer": {"kind": "adamw"}}),
        ({"optimizer": "choice([{kind: sgd}])"}, None),
        ({"ema.decay": "uniform(0, 1)"}, None),
        # A value that the spec refuses is none of the run's.
        ({"seed": "choice([a, 0])"}, {"seed": 0}),
    ],
)
def test_the_runs_own_values_as_a_point(space: dict[str, str], own: dict[str, Any] | None) -> None:
    assert own_values(sweep(space), run()) == own


def test_a_trial_is_the_run_with_the_values_of_its_point() -> None:
    spec = made(
        {
            "phases.1.lr.heads": 0.5,
            "optimizer.weight_decay": 0.2,
            "ema.decay": 0.9,
            "augment": [{"kind": "horizontal_flip"}],
        }
    )

    assert (spec.name, spec.storage_path) == ("t", "at")
    assert spec.phases[1].lr == {"heads": 0.5, "all": 0.001}
    assert spec.optimizer.weight_decay == 0.2
    assert spec.ema is not None
    assert spec.augment[0].kind == "horizontal_flip"
    assert spec.phases[0] == run().phases[0]


def test_the_outer_of_two_paths_is_set_first() -> None:
    phases = [{"name": "all", "train": ["all"], "for": "1 epochs", "lr": 0.1}]

    spec = made({"phases.0.lr": 0.7, "phases": phases})

    assert [(phase.name, phase.lr) for phase in spec.phases] == [("all", 0.7)]


def test_a_kind_can_change_where_its_settings_were_left_out() -> None:
    assert made({"optimizer.kind": "sgd"}).optimizer.kind == "sgd"
    copy: RunSpec = pickle.loads(pickle.dumps(run()))
    assert made({"optimizer.kind": "sgd"}, copy).optimizer.kind == "sgd"


def test_a_point_is_not_changed_by_making_a_run_of_it() -> None:
    phases: list[Any] = [{"name": "all", "train": ["all"], "for": "1 epochs", "lr": {"heads": 1}}]
    values = {"phases": phases, "phases.0.lr.heads": 2}

    made(values)

    assert phases[0]["lr"] == {"heads": 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"phases.0.lr": -1}, "phases.0.lr: expected a number above 0"),
        ({"phases.0.lr": "fast"}, "phases.0.lr: expected a number above 0"),
        ({"phases.0.for": "2 epoch s"}, "phases.0.for: expected a duration"),
        ({"optimizer": {"kind": "sgd", "betas": [0.9, 0.99]}}, "optimizer.betas: there is no"),
        ({"phases.4.lr": 1}, "phases.4.lr: phases has 2 items, and none at 4"),
        ({"torch_compile": "yes"}, "torch_compile: expected true or false"),
        ({"ema.warmup_steps": 3}, "ema"),
        ({"data.validation": None, "best_metric": "validation/loss"}, "best_metric has no effect"),
    ],
)
def test_a_value_that_the_spec_refuses_is_told_by_its_path(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        made(values)

    assert message in str(caught.value)
