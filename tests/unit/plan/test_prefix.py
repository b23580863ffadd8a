from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rayft.errors import SpecError
from rayft.plan.facts import ModelFacts, Paces, Speeds
from rayft.plan.kept_already import with_kept_already
from rayft.plan.prefix import PrefixPlan, prefix_rows
from rayft.plan.run_plan import RunPlan
from tests.unit.plan.conftest import FAST, spec

Planned = Callable[..., RunPlan]
FLIP = [{"kind": "horizontal_flip"}]
MEASURED = replace(FAST, paces={5: Paces(below=100, above=10_000), 3: Paces(below=150, above=300)})


@pytest.fixture
def model_facts(model_facts: ModelFacts) -> ModelFacts:
    """Return the facts of a network whose groups make maps, and features at last."""
    shapes = [(8, 16, 16), (8, 16, 16), (16, 8, 8), (32, 4, 4), (10,)]
    groups = zip(model_facts.groups, shapes, strict=True)
    return replace(
        model_facts, groups=tuple(replace(group, output_shape=shape) for group, shape in groups)
    )


def phase(train: list[str], epochs: int, **more: Any) -> dict[str, Any]:
    lr = more.pop("lr", 0.01)
    name = f"{'-'.join(train).replace(' ', '')}-{epochs}"
    return {"name": name, "train": train, "for": f"{epochs} epochs", "lr": lr, **more}


def prefixes(planned: Planned, *phases: dict[str, Any], **more: Any) -> list[PrefixPlan | None]:
    speeds: Speeds = more.pop("speeds", MEASURED)
    return [each.prefix for each in planned(speeds, phases=list(phases), **more).phases]


def only(planned: Planned, *phases: dict[str, Any], **more: Any) -> PrefixPlan:
    (found,) = prefixes(planned, *phases, **more)
    assert found is not None
    return found


def test_features_are_kept_where_the_heads_train_alone(planned: Planned) -> None:
    found = only(planned, phase(["heads"], 10))

    assert (found.cut, found.is_whole, found.shape) == (5, True, (10,))
    assert found.keeps
    assert found.views is None
    assert found.bytes == (103 + 20) * 10 * 4
    # 103 rows are trained on and 20 evaluated in an epoch, and each passes the prefix at 100/s.
    assert found.epoch_s == pytest.approx(103 / 10_000 + 123 / 100)
    assert found.fill_s == pytest.approx(1.23)
    assert "1 s instead of 12 s" in found.reason


def test_maps_at_the_cut_are_kept_where_groups_train(planned: Planned) -> None:
    first, second = prefixes(planned, phase(["heads"], 10), phase(["heads", "last 2"], 10))

    assert first is not None
    assert second is not None
    assert (second.cut, second.name, second.shape) == (3, "layer2", (16, 8, 8))
    assert first.splits == ("train", "validation")
    assert second.keeps


def test_nothing_is_frozen_where_the_lowest_group_trains(planned: Planned) -> None:
    assert prefixes(planned, phase(["all"], 10)) == [None]


def test_what_was_trained_before_is_no_part_of_it(planned: Planned) -> None:
    _, later = prefixes(planned, phase(["heads", "last 2"], 5), phase(["heads"], 5))
    nothing = prefixes(planned, phase(["all"], 5), phase(["heads"], 5))

    assert later is not None
    assert later.cut == 3
    assert nothing == [None, None]


def test_one_epoch_does_not_pay(planned: Planned) -> None:
    found = only(planned, phase(["heads"], 1))

    assert not found.keeps
    assert "would not pay" in found.reason


def test_one_epoch_pays_where_its_rows_are_kept_already(planned: Planned) -> None:
    plan = planned(MEASURED, phases=[phase(["heads"], 1)])

    found = with_kept_already(plan, {0: 1}).phases[0].prefix

    assert with_kept_already(plan, {0: 0}) == plan
    assert found is not None
    assert found.keeps
    assert found.fill_s == 0
    assert found.reason == "kept already: 0 s instead of 1 s are expected for the phase"


def test_what_is_there_in_part_is_counted_in_part(planned: Planned) -> None:
    plan = planned(MEASURED, phases=[phase(["heads"], 10)])

    found = with_kept_already(plan, {0: 0.5}).phases[0].prefix

    assert found is not None
    assert found.fill_s == pytest.approx(1.23 / 2)
    assert found.reason.startswith("50% of it is kept already: ")


def test_what_must_not_be_kept_is_not_read_either(planned: Planned) -> None:
    plan = planned(MEASURED, phases=[phase(["heads"], 10)], cache={"mode": "off"})

    assert with_kept_already(plan, {0: 1}) == plan


def test_a_slow_reading_of_large_maps_does_not_pay(planned: Planned) -> None:
    fast = replace(FAST, paces={5: Paces(below=1e9, above=1e9)})

    found = only(planned, phase(["heads"], 10), speeds=fast)

    assert not found.keeps
    assert "would not pay" in found.reason


@pytest.mark.parametrize(
    ("epochs", "views"), [(3, None), (4, 2), (7, 2), (8, 4), (20, 8), (100, 8)]
)
def test_views_are_each_used_twice_at_least(
    planned: Planned, epochs: int, views: int | None
) -> None:
    found = only(planned, phase(["heads"], epochs), augment=FLIP)

    assert found.views == views
    assert found.keeps == (views is not None)
    if views:
        assert found.bytes == (103 * views + 20) * 10 * 4
    else:
        assert "new random views" in found.reason


NEVER = [
    {"kind": "horizontal_flip", "probability": 0},
    {"kind": "grayscale", "probability": 0},
    {"kind": "random_erasing", "probability": 0},
]


@pytest.mark.parametrize("views", ["auto", 3])
def test_what_no_row_draws_makes_no_views(planned: Planned, views: str | int) -> None:
    found = only(planned, phase(["heads"], 10), augment=NEVER, cache={"views": views})

    assert found == only(planned, phase(["heads"], 10))


def test_one_operation_that_rows_draw_makes_views(planned: Planned) -> None:
    always = {"kind": "color_jitter", "hue": 0.1}

    for augment in ([*NEVER, always], [*NEVER, *FLIP]):
        assert only(planned, phase(["heads"], 10), augment=augment).views == 4


def test_a_mix_that_no_row_draws_does_not_stand_against_keeping(planned: Planned) -> None:
    never = {"kind": "mixup", "probability": 0}

    found = only(planned, phase(["heads"], 10), mix=[never])
    other = only(planned, phase(["heads"], 10), mix=[never, {"kind": "cutmix"}])

    assert found == only(planned, phase(["heads"], 10))
    assert "cutmix mixes the images" in other.reason


def test_a_budget_that_is_given_limits_the_views(planned: Planned, model_facts: ModelFacts) -> None:
    budget = {"cache": {"budget": "1 MB"}}
    found = only(planned, phase(["heads"], 100), augment=FLIP, rows=20_000, **budget)

    # 0.8 MB a view.
    assert found.views is None
    assert not found.keeps


def test_no_speed_and_no_disk_decides_which_views_are_trained_on(planned: Planned) -> None:
    fast = replace(FAST, paces={5: Paces(below=1e9, above=1e9)})

    found = only(planned, phase(["heads"], 100), augment=FLIP, speeds=fast)

    assert found.views == 8
    assert not found.keeps


def test_what_does_not_fit_says_by_how_much(planned: Planned) -> None:
    found = only(planned, phase(["heads"], 10), rows=100_000, cache={"budget": "1 MB"})

    assert not found.keeps
    assert "exceed what is left of cache.budget by 0.00 GB" in found.reason


def test_phases_with_the_same_cut_share_the_budget(planned: Planned) -> None:
    # 100,000 rows of 10 numbers are 4 MB.
    both = [phase(["heads"], 10), {**phase(["heads"], 10), "name": "again"}]

    found = prefixes(planned, *both, rows=100_000, cache={"budget": "5 MB"})

    assert [each.keeps for each in found if each] == [True, True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cache": {"mode": "off"}}, "cache.mode is off"),
        ({"mix": [{"kind": "mixup"}]}, "mixup mixes the images"),
    ],
)
def test_what_stands_against_keeping_is_said(
    planned: Planned, changes: dict[str, Any], reason: str
) -> None:
    found = only(planned, phase(["heads"], 10), **changes)

    assert not found.keeps
    assert reason in found.reason


def test_scaled_images_stand_against_keeping(planned: Planned) -> None:
    found = only(planned, phase(["heads"], 10, image_size=16))

    assert not found.keeps
    assert "scales its images to 16 px" in found.reason


def test_requiring_what_is_impossible_is_refused(planned: Planned) -> None:
    with pytest.raises(SpecError) as mixed:
        prefixes(planned, phase(["heads"], 10), mix=[{"kind": "mixup"}], cache={"mode": "require"})
    with pytest.raises(SpecError) as nothing:
        prefixes(planned, phase(["all"], 10), cache={"mode": "require"})

    assert "cache.mode: it is require, and no phase keeps" in str(mixed.value)
    assert "mixup mixes" in str(mixed.value)
    assert "every phase trains from the first layer on" in str(nothing.value)


def test_requiring_keeps_what_would_not_pay(planned: Planned) -> None:
    found = only(planned, phase(["heads"], 1), cache={"mode": "require"}, augment=FLIP)

    assert found.keeps
    assert found.views == 1
    assert "asked for" in found.reason


@pytest.mark.parametrize(
    ("rows", "device", "expected"),
    [
        (4, "cpu", 4),
        (32, "cpu", 32),
        (64, "cpu", 32),
        (128, "cpu", 32),
        (50, "cpu", 25),
        (37, "cpu", 32),
        (256, "cuda", 64),
    ],
)
def test_a_prefix_runs_on_a_divisor_of_the_batch_where_it_can(
    rows: int, device: Any, expected: int
) -> None:
    assert prefix_rows(rows, device) == expected


def test_nothing_is_kept_for_evaluations_of_several_views(planned: Planned) -> None:
    found = only(planned, phase(["heads"], 10), test_time={"horizontal_flip": True})

    assert found.splits == ("train",)


def test_in_an_object_store_what_is_kept_must_fit_beside_the_rows(planned: Planned) -> None:
    remote = {"storage_path": "s3://bucket/runs"}
    cache = {**spec().data.model_dump(mode="json"), "local_cache": {"budget": "4 MB"}}

    # 100,000 rows of 10 numbers are 4 MB, and the rows themselves take some of the budget.
    found = only(planned, phase(["heads"], 10), rows=100_000, data=cache, **remote)
    fits = only(planned, phase(["heads"], 10), rows=90_000, data=cache, **remote)

    assert "exceed what is left" in found.reason
    assert fits.keeps


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_layers_that_compute_in_bf16_are_kept_in_it(planned: Planned, dtype: str) -> None:
    with pytest.raises(SpecError, match=f"cache.dtype: .*bf16, and {dtype} can hold no more"):
        prefixes(planned, phase(["heads"], 10), cache={"dtype": dtype}, precision="bf16")
