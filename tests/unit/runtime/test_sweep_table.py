"""The table of a sweep: what a journal tells, put in order."""

import math

import pytest

from rayft.metrics.names import Direction
from rayft.plan.sampling import values_in
from rayft.plan.trials import Point, Status
from rayft.runtime.sweep_table import SweepTable, make_table
from tests.unit.runtime.told import Trial, ended, head, made_up, report, run

METRIC = "validation/accuracy"


def table(*trials: Trial, direction: Direction = "max") -> SweepTable:
    return make_table(head(direction, ["phases.0.lr"]), run(), trials)


def over(trial: int, value: float, status: Status = "finished", metric: str = METRIC) -> Trial:
    return ended(Point(trial=trial, values={}), status, metrics={metric: value})


def at_work(trial: int, *reached: tuple[int, int, float], status: Status = "running") -> Trial:
    reports = tuple(report(trial, *place, METRIC) for place in reached)
    return Trial(Point(trial=trial, values={}), status, reports)


def test_finished_trials_come_first_and_the_best_of_them_is_the_best() -> None:
    found = table(over(0, 0.7), over(1, 0.9, "stopped"), over(2, 0.8), over(3, 0.95, "failed"))

    assert [row.trial for row in found.rows] == [2, 0, 3, 1]
    assert found.best is found.rows[0]


def test_less_is_better_where_the_metric_says_so() -> None:
    metric = "validation/loss"

    found = table(over(0, 0.7, metric=metric), over(1, 0.2, metric=metric), direction="min")

    assert found.best is not None
    assert found.best.trial == 1


def test_equal_results_are_ordered_by_trial() -> None:
    found = table(*(over(trial, 0.5) for trial in (3, 1, 2, 0)))

    assert [row.trial for row in found.rows] == [0, 1, 2, 3]


def test_a_trial_at_work_shows_the_best_it_has_reached_and_where_it_is() -> None:
    row = table(at_work(1, (0, 1, 0.5), (0, 2, 0.8), (1, 1, 0.6))).rows[0]

    assert (row.trial, row.status, row.value) == (1, "running", 0.8)
    assert (row.phase, row.epoch, row.epochs) == (1, 1, 3)
    assert [(point.phase, point.epoch, point.done) for point in row.curve] == [
        (0, 1, 1),
        (0, 2, 2),
        (1, 1, 3),
    ]


def test_nothing_is_best_before_a_trial_has_finished() -> None:
    waiting = at_work(2, status="waiting")

    found = table(waiting, at_work(0, (0, 1, 0.5)), over(1, 0.9, "stopped"))

    assert found.best is None
    assert [row.status for row in found.rows] == ["stopped", "running", "waiting"]


def test_a_value_that_is_no_number_is_no_result() -> None:
    reached = at_work(1, (0, 1, 0.4), (0, 2, math.nan))

    found = table(reached, over(2, math.inf), over(3, math.nan, "failed"))

    by_trial = {row.trial: row for row in found.rows}
    assert by_trial[1].value == 0.4
    assert [point.done for point in by_trial[1].curve] == [1]
    assert by_trial[1].epochs == 2
    assert by_trial[2].value is None
    assert by_trial[2].metrics == {}
    assert found.best is None


def test_trial_0_shows_the_values_of_the_run_itself() -> None:
    rows = {row.trial: row for row in made_up(3).rows}

    assert rows[0].values["phases.0.lr"] == 1e-2
    assert rows[0].values["phases.1.train"] == ["all"]
    assert rows[0].point.values == {}


@pytest.mark.parametrize(
    "path", ["ema.decay", "phases.7.lr", "phases.x", "name.x", "phases.0.lr.x"]
)
def test_a_setting_that_the_run_leaves_out_has_no_value(path: str) -> None:
    assert values_in(run(), [path]) == {}


def test_trials_without_a_result_have_no_rank() -> None:
    ranked = made_up(8).ranked()

    ranks = [rank for rank, _ in ranked]
    assert ranks == [1, 2, 3, 4, 5, 6, 7, None]
    assert ranked[-1][1].status == "invalid"
