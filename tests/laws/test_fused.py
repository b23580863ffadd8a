"""Law 6: a run that trains fused with others comes to what it would have come to alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.fused import OnEpoch
from rayft.errors import Stopped
from rayft.plan.fusing import fuse_key
from rayft.plan.trials import Report
from rayft.spec.run import RunSpec
from tests.laws.fusing import Place, assert_same, assert_same_end, phase, trial_spec
from tests.laws.harness import make_test_plan

ADAMW = {"kind": "adamw", "weight_decay": 0.1}
SGD = {"kind": "sgd", "momentum": 0.9, "nesterov": True}
WIDE = {"hidden": [8, 6], "norm": "layer", "activation": "gelu"}


def members(count: int, **changes: Any) -> list[RunSpec]:
    """Return trials that differ in all that may differ, but for the seed."""
    optimizer = changes.pop("optimizer", ADAMW)
    layers = changes.pop("head", {})
    schedules: list[dict[str, Any]] = [
        {"kind": "cosine", "warmup": "20%"},
        {"kind": "constant"},
        {"kind": "one_cycle"},
    ]
    return [
        trial_spec(
            number,
            head={
                **layers,
                "dropout": (0.0, 0.4, 0.4, 0.1)[number % 4],
                "label_smoothing": 0.05 * (number % 3),
            },
            phases=[phase(lr=0.003 * 1.7**number)],
            schedule=schedules[number % 3],
            optimizer={**optimizer, "weight_decay": (0.1, 0.0, 0.3)[number % 3]},
            **changes,
        )
        for number in range(count)
    ]


def check(specs: Sequence[RunSpec], prepared: PreparedDataset, folder: Path) -> None:
    """Check that trials come to the same together as each of them alone."""
    assert len({fuse_key(make_test_plan(spec, prepared)) for spec in specs}) == 1
    together, alone = Place(folder / "fused", prepared), Place(folder / "alone", prepared)

    endings = together.fused(*specs)

    assert [ending.status for ending in endings] == ["finished"] * len(specs)
    for spec, ending, lone in zip(specs, endings, alone.alone(*specs), strict=True):
        assert_same(lone, together.ended(spec))
        assert ending.metrics == together.ended(spec).result["metrics"]
        assert ending.checkpoint == together.ended(spec).result["checkpoint"]


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("optimizer", [ADAMW, SGD], ids=["adamw", "sgd"])
@pytest.mark.parametrize("head", [{}, WIDE], ids=["linear", "hidden"])
def test_each_member_equals_its_lone_run(
    prepared: PreparedDataset,
    tmp_path: Path,
    count: int,
    optimizer: dict[str, Any],
    head: dict[str, Any],
) -> None:
    check(members(count, optimizer=optimizer, head=head), prepared, tmp_path)


@pytest.mark.parametrize("head", [{}, WIDE], ids=["linear", "hidden"])
def test_in_bf16_too(prepared: PreparedDataset, tmp_path: Path, head: dict[str, Any]) -> None:
    check(members(3, head=head, precision="bf16"), prepared, tmp_path)


def test_members_of_several_seeds_see_their_own_rows_and_drop_their_own_inputs(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    specs = members(6, head={"hidden": [8]})
    specs = [spec.model_copy(update={"seed": number % 3 + 3}) for number, spec in enumerate(specs)]

    check(specs, prepared, tmp_path)


def test_kept_views_are_those_of_each_seed(prepared: PreparedDataset, tmp_path: Path) -> None:
    augmented: dict[str, Any] = {
        "augment": [{"kind": "horizontal_flip"}, {"kind": "random_crop", "padding": 3}],
        "cache": {"mode": "require", "views": 2},
    }
    specs = [trial_spec(number, seed=3 + number % 2, **augmented) for number in range(3)]

    check(specs, prepared, tmp_path)


def test_weights_of_classes_and_shards_of_a_step_are_those_of_the_lone_run(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    weights = {"class_weights": {"stripe1": 3.0}}
    specs = members(3, head={**weights, "hidden": [8]}, rows_per_device=4, gradient_clip=0.1)
    assert make_test_plan(specs[0], prepared).batches.num_shards == 4

    check(specs, prepared, tmp_path)


def test_phases_follow_each_other_and_their_moments_go_on(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    specs = [
        trial_spec(number, phases=[phase(lr=rate), phase(name="slow", lr=rate / 9, **length)])
        for length in ({"for": "9 steps"},)
        for number, rate in enumerate((0.02, 0.004))
    ]

    check(specs, prepared, tmp_path)


def test_members_whose_phases_end_early_wait_for_the_others(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    until = {"plateau": "validation/loss", "patience": 1, "min_delta": 0.02}
    specs = [
        trial_spec(
            number,
            phases=[
                phase(lr=rate, until=until, **{"for": "6 epochs"}),
                phase(name="second", lr=rate, until=until, **{"for": "4 epochs"}),
            ],
        )
        for number, rate in enumerate((1e-6, 0.01, 0.1))
    ]

    check(specs, prepared, tmp_path)

    ends = [
        [
            (e["phase"], e["steps_done"])
            for e in Place(tmp_path / "fused", prepared).ended(spec).of_kind("epoch")
        ][-1]
        for spec in specs
    ]
    assert len(set(ends)) > 1


def stopping(trial: int, epoch: int) -> OnEpoch:
    def stops(reports: Sequence[Report]) -> frozenset[int]:
        return frozenset({trial} if reports[0].epoch >= epoch else ())

    return stops


def test_one_that_is_stopped_leaves_the_others_alone(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    specs = members(4, head=WIDE)
    heard: list[Sequence[Report]] = []

    def stops(reports: Sequence[Report]) -> frozenset[int]:
        heard.append(reports)
        return stopping(1, 2)(reports)

    together, alone = Place(tmp_path / "fused", prepared), Place(tmp_path / "alone", prepared)
    endings = together.fused(*specs, on_epoch=stops)

    assert [ending.status for ending in endings] == ["finished", "stopped", "finished", "finished"]
    whole = alone.alone(*specs)
    for number in (0, 2, 3):
        assert_same(whole[number], together.ended(specs[number]))
    stopped = together.ended(specs[1])
    epochs = [event["metrics"] for event in stopped.of_kind("epoch")]
    assert len(epochs) == 2
    assert endings[1].metrics in epochs
    assert Path(endings[1].checkpoint).name == stopped.best
    assert stopped.events[-1]["kind"] == "stopped"
    assert not stopped.result
    assert [[report.trial for report in each] for each in heard] == [[0, 1, 2, 3]] * 2 + [[0, 2, 3]]
    assert [(each[0].phase, each[0].epoch) for each in heard] == [(0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("steps", [2, 4, 7, 11])
def test_stopped_and_taken_up_equals_never_stopped(
    prepared: PreparedDataset, tmp_path: Path, steps: int
) -> None:
    specs = members(3, head=WIDE)
    place, whole = Place(tmp_path / "parts", prepared), Place(tmp_path / "whole", prepared)
    with pytest.raises(Stopped):
        place.fused(*specs, stop_after=steps)

    place.fused(*specs)
    whole.fused(*specs)

    for spec in specs:
        assert_same_end(whole.ended(spec), place.ended(spec))


@pytest.mark.parametrize("interval_s", [0, 1e9])
def test_killed_and_taken_up_equals_never_killed(
    prepared: PreparedDataset, tmp_path: Path, interval_s: float
) -> None:
    specs = members(3, checkpoint={"interval_s": interval_s, "keep": 2})
    place, whole = Place(tmp_path / "parts", prepared), Place(tmp_path / "whole", prepared)

    def killed(reports: Sequence[Report]) -> frozenset[int]:
        raise KeyboardInterrupt

    heard: list[int] = []

    def counted(reports: Sequence[Report]) -> frozenset[int]:
        heard.append(reports[0].epoch)
        return frozenset()

    with pytest.raises(KeyboardInterrupt):
        place.fused(*specs, on_epoch=killed)
    place.fused(*specs, on_epoch=counted)
    whole.fused(*specs)

    assert heard == [1, 2, 3]
    resumed = bool(place.ended(specs[0]).of_kind("resumed"))
    assert resumed == (interval_s == 0)
    for spec in specs:
        assert_same_end(whole.ended(spec), place.ended(spec))


def test_members_of_a_unit_that_was_killed_go_on_alone(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    specs = members(3, checkpoint={"interval_s": 0, "keep": 2})
    place, whole = Place(tmp_path / "parts", prepared), Place(tmp_path / "whole", prepared)

    def killed(reports: Sequence[Report]) -> frozenset[int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.fused(*specs, on_epoch=killed)
    went_on, alone = place.alone(*specs), whole.alone(*specs)

    for mine, other in zip(went_on, alone, strict=True):
        assert mine.of_kind("resumed")
        assert_same_end(other, mine)


def test_one_whose_checkpoints_are_damaged_fails_alone(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    specs = members(3)
    place, whole = Place(tmp_path / "parts", prepared), Place(tmp_path / "whole", prepared)
    with pytest.raises(Stopped):
        place.fused(*specs, stop_after=6)
    jobs = place.begin(*specs)
    for found in (place.folder / specs[1].name / "checkpoints").glob("step-*"):
        (found / "optimizer.safetensors").write_bytes(b"")

    endings = place.go_on(jobs)

    whole.fused(*specs)
    assert [ending.status for ending in endings] == ["finished", "failed", "finished"]
    assert "damaged" in endings[1].reason
    for spec in (specs[0], specs[2]):
        assert_same_end(whole.ended(spec), place.ended(spec))


def test_a_run_that_was_killed_after_its_last_step_is_finished(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    specs = members(2)
    place = Place(tmp_path, prepared)
    first = place.fused(*specs)
    place.folder_of(specs[0]).result_file.delete()

    again = place.fused(*specs)

    assert [ending.metrics for ending in again] == [ending.metrics for ending in first]
    assert place.ended(specs[0]).result["metrics"] == first[0].metrics
    assert len(place.ended(specs[0]).of_kind("epoch")) == 3


@pytest.mark.parametrize("interval_s", [0, 1e9])
def test_members_taken_up_from_different_steps_catch_up(
    prepared: PreparedDataset, tmp_path: Path, interval_s: float
) -> None:
    specs = members(4, checkpoint={"interval_s": interval_s, "keep": 2})
    place, whole = Place(tmp_path / "parts", prepared), Place(tmp_path / "whole", prepared)
    # As after a kill while the checkpoints of the group were written.
    for steps, group in ((3, specs[:3]), (3, specs[:2]), (2, specs[:1])):
        with pytest.raises(Stopped):
            place.fused(*group, stop_after=steps)

    # Killed again while some wait for the others.
    with pytest.raises(Stopped):
        place.fused(*specs, stop_after=2)
    place.fused(*specs)
    whole.fused(*specs)

    for spec in specs:
        assert_same_end(whole.ended(spec), place.ended(spec))


def test_the_best_state_is_kept_where_later_ones_are_worse(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    specs = [
        trial_spec(
            number,
            phases=[phase(lr=rate, **{"for": "5 epochs"})],
            schedule={"kind": "constant"},
            best_metric="validation/loss",
        )
        for number, rate in enumerate((0.01, 1.0, 10.0))
    ]

    check(specs, prepared, tmp_path)

    ended = [Place(tmp_path / "fused", prepared).ended(spec) for spec in specs]
    assert any(each.best != max(each.checkpoints) for each in ended)
    assert all(len(each.checkpoints) <= 2 for each in ended)


def test_one_that_cannot_go_on_fails_alone_and_as_it_would_alone(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    specs = [trial_spec(n, phases=[phase(lr=rate)]) for n, rate in enumerate((0.01, 1e38, 0.003))]
    together, alone = Place(tmp_path / "fused", prepared), Place(tmp_path / "alone", prepared)

    endings = together.fused(*specs)

    whole = alone.alone(*specs)
    assert [ending.status for ending in endings] == ["finished", "failed", "finished"]
    assert "is not finite" in endings[1].reason
    for number in (0, 2):
        assert_same(whole[number], together.ended(specs[number]))
    (failed,) = whole[1].of_kind("failed")
    assert together.ended(specs[1]).of_kind("failed")[0]["problems"] == failed["problems"]


def test_checkpoints_are_written_where_due_and_the_best_is_among_them(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    specs = members(2, checkpoint={"interval_s": 0, "keep": 2})
    place, rare = Place(tmp_path / "often", prepared), Place(tmp_path / "rarely", prepared)

    place.fused(*specs)
    rare.fused(*members(2))

    often, seldom = place.ended(specs[0]), rare.ended(specs[0])
    assert len(often.of_kind("checkpoint")) == make_test_plan(specs[0], prepared).num_steps
    assert {often.best, max(often.checkpoints)} <= often.checkpoints.keys()
    assert len(seldom.of_kind("checkpoint")) == len({seldom.best, max(seldom.checkpoints)})
    for name in seldom.checkpoints.keys() & often.checkpoints.keys():
        same = {
            k: torch.equal(v, often.checkpoints[name][k])
            for k, v in seldom.checkpoints[name].items()
        }
        assert all(same.values())
