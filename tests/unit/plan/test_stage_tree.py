"""What trials have in common is run once, up to where they part."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayft.plan.facts import ModelFacts
from rayft.plan.run_plan import RunPlan, make_plan
from rayft.plan.stage_keys import stage_keys
from rayft.plan.stage_tree import StageTree, grow
from tests.unit.plan.conftest import FAST, cluster, data, spec

Plans = Callable[..., Mapping[int, RunPlan]]


def phase(number: int, *, lr: float = 0.01, epochs: int = 1) -> dict[str, Any]:
    return {"name": f"p{number}", "train": ["heads"], "for": f"{epochs} epochs", "lr": lr}


@pytest.fixture
def plans(model_facts: ModelFacts) -> Plans:
    """Return a function that plans a trial for each list of phases, given as (rate, epochs)."""

    @cache
    def plan(phases: tuple[tuple[float, int], ...], seed: int) -> RunPlan:
        written = [phase(n, lr=lr, epochs=epochs) for n, (lr, epochs) in enumerate(phases)]
        return make_plan(
            spec(phases=written, seed=seed),
            model=model_facts,
            data=data(),
            cluster=cluster(),
            speeds=FAST,
        )

    def all_of(
        *trials: Sequence[tuple[float, int]], seeds: Sequence[int] = ()
    ) -> dict[int, RunPlan]:
        seeds = seeds or [0] * len(trials)
        return {n: plan(tuple(trial), seeds[n]) for n, trial in enumerate(trials)}

    return all_of


def shape(tree: StageTree) -> list[tuple[int, tuple[int, ...], int]]:
    return [(stage.stops_before, stage.trials, stage.epochs) for stage in tree.stages]


def test_trials_that_part_after_a_phase_share_it(plans: Plans) -> None:
    tree = grow(plans([(0.01, 5), (0.1, 2)], [(0.01, 5), (0.2, 2)], [(0.01, 5), (0.3, 3)]))

    assert shape(tree) == [(1, (0, 1, 2), 5)]
    assert [tree.leaf_of(trial) for trial in range(3)] == [tree.stages[0].key] * 3
    assert (tree.epochs_run, tree.epochs_saved) == (12, 10)
    assert tree.stage(tree.stages[0].key).name == f"stage-{tree.stages[0].key}"


def test_only_where_trials_part_a_stage_ends(plans: Plans) -> None:
    same = [(0.01, 1), (0.02, 2), (0.03, 3)]

    tree = grow(plans([*same, (0.1, 1)], [*same, (0.2, 1)]))

    assert shape(tree) == [(3, (0, 1), 6)]
    assert tree.stages[0].phases == ("p0", "p1", "p2")


def test_stages_begin_from_stages(plans: Plans) -> None:
    tree = grow(
        plans(
            [(0.1, 4), (0.1, 2), (0.1, 1)],
            [(0.1, 4), (0.1, 2), (0.2, 1)],
            [(0.1, 4), (0.2, 2), (0.1, 1)],
            [(0.2, 4), (0.1, 2), (0.1, 1)],
        )
    )

    assert shape(tree) == [(1, (0, 1, 2), 4), (2, (0, 1), 2)]
    first, second = tree.stages
    assert (first.parent, second.parent) == ("", first.key)
    assert [tree.leaf_of(n) for n in range(4)] == [second.key, second.key, first.key, ""]
    assert (tree.epochs_run, tree.epochs_saved) == (18, 10)


def test_a_trial_may_end_where_others_go_on(plans: Plans) -> None:
    tree = grow(plans([(0.1, 4)], [(0.1, 4), (0.1, 2)]))

    assert shape(tree) == [(1, (0, 1), 4)]
    assert tree.epochs_run == 6


def test_equal_trials_are_trained_once(plans: Plans) -> None:
    tree = grow(plans([(0.1, 4), (0.1, 2)], [(0.1, 4), (0.1, 2)]))

    assert shape(tree) == [(2, (0, 1), 6)]
    assert tree.epochs_run == 6


def test_trials_with_nothing_in_common_have_no_stage(plans: Plans) -> None:
    tree = grow(plans([(0.1, 4), (0.1, 2)], [(0.1, 4), (0.1, 2)], seeds=[0, 1]))

    assert tree.stages == ()
    assert tree.leaf_of(1) == ""
    assert (tree.epochs_run, tree.epochs_saved) == (12, 0)
    assert tree.lines() == ["no phases in common: 12 epochs"]
    with pytest.raises(KeyError):
        tree.stage("missing")


def test_the_tree_as_text(plans: Plans) -> None:
    tree = grow(
        plans(
            [(0.1, 4), (0.1, 2), (0.1, 1)],
            [(0.1, 4), (0.1, 2), (0.2, 1)],
            [(0.1, 4), (0.2, 2), (0.1, 1)],
            [(0.2, 4), (0.1, 2), (0.1, 1)],
            [(0.1, 4), (0.1, 2), (0.3, 1)],
            [(0.1, 4), (0.1, 2), (0.4, 1)],
        )
    )

    first, second = tree.stages
    assert tree.lines() == [
        "20 epochs instead of 42, 22 saved",
        f"  p0 (4 epochs) once for 5 trials: {first.name}",
        f"    p1 (2 epochs) once for 4 trials: {second.name}",
        "      trials 0-1, 4-5",
        "    trial 2",
        "  trial 3 from the start",
    ]
    assert tree.epochs_run + tree.epochs_saved == 42


PHASES = st.tuples(st.sampled_from([0.1, 0.2]), st.integers(1, 2))
TRIALS = st.lists(st.lists(PHASES, min_size=1, max_size=3), min_size=1, max_size=7)


@given(trials=TRIALS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_distinct_beginning_is_run_once(
    plans: Plans, trials: list[list[tuple[float, int]]]
) -> None:
    planned = plans(*trials)

    tree = grow(planned)

    beginnings = {tuple(trial[:n]) for trial in trials for n in range(1, len(trial) + 1)}
    assert tree.epochs_run == sum(beginning[-1][1] for beginning in beginnings)
    for stage in tree.stages:
        assert len(stage.trials) > 1
        assert {stage_keys(planned[n])[stage.stops_before - 1] for n in stage.trials} == {stage.key}
        if stage.parent:
            parent = tree.stage(stage.parent)
            assert parent.stops_before < stage.stops_before
            assert set(parent.trials) > set(stage.trials) or parent.trials == stage.trials
    for number, trial in enumerate(trials):
        leaf = tree.leaf_of(number)
        shared = tree.stage(leaf).stops_before if leaf else 0
        others = [other for n, other in enumerate(trials) if n != number]
        # Nobody else goes further along with it.
        assert all(other[: shared + 1] != trial[: shared + 1] for other in others) or shared == len(
            trial
        )
