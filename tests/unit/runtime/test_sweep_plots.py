"""The pictures of a sweep: what they show follows from the trials."""

import io
import logging
import math
import random

import numpy as np
import pytest
from PIL import Image

from rayft.metrics.names import Direction
from rayft.plan.trials import Json, Point
from rayft.runtime.sweep_plots.build import draw_plots
from rayft.runtime.sweep_plots.importance import FEWEST_TRIALS, importance_of
from rayft.runtime.sweep_plots.scales import Choices, Range, metric_range, scale_of
from rayft.runtime.sweep_table import SweepTable, make_table
from tests.unit.runtime.told import BACKBONES, Trial, finished, head, made_up, run


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("number", [3, 24])
def test_pictures_are_drawn_and_have_something_on_them(number: int, direction: Direction) -> None:
    drawn = draw_plots(made_up(number, direction=direction))

    expected = {"parallel.png", "curves.png"} | ({"importance.png"} if number == 24 else set())
    assert drawn.keys() == expected
    for content in drawn.values():
        image = pixels(content)
        assert min(image.shape[:2]) > 200
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20


def test_the_same_sweep_gives_the_same_bytes() -> None:
    assert draw_plots(made_up(8)) == draw_plots(made_up(8))


def test_the_best_trial_is_red() -> None:
    red = np.array([0xC0, 0x39, 0x2B])

    drawn = draw_plots(made_up(9))

    for content in drawn.values():
        assert (pixels(content) == red).all(axis=-1).sum() > 200


def test_nothing_is_drawn_before_there_is_a_result() -> None:
    trials = [Trial(Point(trial=trial, values={})) for trial in range(3)]

    assert draw_plots(make_table(head(), run(), trials)) == {}


def test_dollars_and_long_values_are_text() -> None:
    paths: list[Json] = ["a$b$c_{x", "d^2$\\frac", "e" * 200]
    points = [Point(trial=i, values={"data.train.path": path}) for i, path in enumerate(paths)]
    table = reached(points, [0.1, 0.2, 0.3], settings=["data.train.path"])

    assert draw_plots(table)["parallel.png"].startswith(b"\x89PNG")


def test_a_setting_that_some_trials_lack_is_drawn_for_the_others() -> None:
    points = [Point(trial=i, values={"ema.decay": 0.9 + i / 100} if i else {}) for i in range(6)]
    lacking = [Point(trial=i, values={}) for i in range(2)]

    for some in (points, lacking):
        table = reached(some, [0.1 * i for i in range(len(some))], settings=["ema.decay"])
        assert draw_plots(table)["parallel.png"].startswith(b"\x89PNG")


def reached(points: list[Point], values: list[float], settings: list[str]) -> SweepTable:
    trials = [finished(point, value) for point, value in zip(points, values, strict=True)]
    return make_table(head(settings=settings), run(), trials)


@pytest.mark.parametrize("direction", ["max", "min"])
def test_the_setting_that_decides_is_the_most_important(direction: Direction) -> None:
    for seed in range(3):
        found = importance_of(made_up(60, direction=direction, seed=seed))

        assert found[0].path == "phases.0.lr"
        assert found[0].is_clear
        assert found[0].share > 0.7
        assert sum(one.share for one in found) == pytest.approx(1.0)


def noisy(seed: int, *, backbone_adds: float) -> SweepTable:
    """Return 24 trials with results from 0 to 1, and as much for a better backbone."""
    draw = random.Random(seed)
    points, values = [], []
    for trial in range(24):
        backbone = draw.randrange(3)
        rate = 10 ** draw.uniform(-4, -1)
        settings: dict[str, Json] = {"lr": rate, "model.backbone.name": BACKBONES[backbone]}
        points.append(Point(trial=trial, values=settings))
        values.append(draw.random() + backbone_adds * backbone)
    return reached(points, values, ["lr", "model.backbone.name"])


def test_a_choice_is_found_beside_a_number_that_does_not_matter() -> None:
    firsts = [importance_of(noisy(seed, backbone_adds=1.5))[0] for seed in range(8)]

    assert [one.path for one in firsts] == ["model.backbone.name"] * 8
    assert sum(one.is_clear for one in firsts) >= 7


def test_chance_is_seldom_taken_for_importance() -> None:
    clear = [
        one.is_clear for seed in range(12) for one in importance_of(noisy(seed, backbone_adds=0.0))
    ]

    # One in twenty is expected by how the limit is set.
    assert sum(clear) <= 4


def test_importance_needs_enough_trials_and_something_that_varies() -> None:
    def table(number: int, *rates: float) -> SweepTable:
        points = [
            Point(trial=i, values={"phases.0.lr": rates[i % len(rates)]}) for i in range(number)
        ]
        return reached(points, [i / 100 for i in range(number)], ["phases.0.lr"])

    assert importance_of(table(FEWEST_TRIALS - 1, 0.1, 0.2)) == ()
    assert importance_of(table(FEWEST_TRIALS, 0.1)) == ()
    assert [one.path for one in importance_of(table(FEWEST_TRIALS, 0.1, 0.2))] == ["phases.0.lr"]


def test_importance_says_nothing_of_its_own(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        importance_of(made_up(24))

    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_rates_over_powers_of_ten_get_a_logarithmic_axis() -> None:
    scale = scale_of([1e-4, 3e-4, 1e-3, 1e-2, 0.5])

    assert isinstance(scale, Range)
    assert scale.log
    assert [word for _, word in scale.marks()] == ["0.0001", "0.001", "0.01", "0.1"]
    assert scale.place(1e-4) == 0
    assert scale.place(math.sqrt(1e-4 * 0.5)) == pytest.approx(0.5)


def test_few_values_that_come_again_are_choices_in_their_order() -> None:
    scale = scale_of([0.1, 0.0, 0.01, 0.1, 0.0])

    assert isinstance(scale, Choices)
    assert scale.marks() == [(0.0, "0"), (0.5, "0.01"), (1.0, "0.1")]
    assert scale.place(0.01) == 0.5


@pytest.mark.parametrize("values", [[True, False], ["a", "b"], [None, 0.1], [[1], [2]]])
def test_what_is_no_number_is_a_choice(values: list[Json]) -> None:
    scale = scale_of(values)

    assert isinstance(scale, Choices)
    assert len(scale.marks()) == 2


@pytest.mark.parametrize("values", [[5], [0.25], [1e-3, 2e-3], [0.0, 0.3, 0.7], [-3, 14, 5]])
def test_marks_of_numbers_lie_on_the_axis(values: list[Json]) -> None:
    scale = scale_of(values)

    marks = scale.marks()
    assert marks
    assert all(0 <= at <= 1 for at, _ in marks)


def test_one_trial_that_diverged_does_not_press_the_others_into_a_line() -> None:
    usual = [0.5 + 0.01 * i for i in range(19)]

    assert metric_range([*usual, 1e6], "min").high < 1.0
    assert metric_range([*usual, -1e6], "max").low > 0.0
    assert metric_range([0.3, 0.4, 0.5, 0.6, 1e6], "min").high < 1.0
    assert metric_range(usual, "min") == Range(min(usual), max(usual))
