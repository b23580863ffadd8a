"""Shares and thaws become plain phases in the plan."""

from collections.abc import Callable
from typing import Any

import pytest

from rayft.cli.show_plan import plan_lines
from rayft.errors import SpecError
from rayft.plan.run_plan import RunPlan

Planned = Callable[..., RunPlan]

TABLE = {"heads": 1e-3, "backbone": 4e-4, "decay": 0.5}


def phase(**changes: Any) -> dict[str, Any]:
    return {"name": "thaw", "train": ["all"], "for": "8 epochs", "lr": TABLE, **changes}


def trained(plan: RunPlan) -> dict[str, dict[str, float]]:
    return {
        phase.name: {group.name: group.lr for group in phase.ledger.groups if group.trains}
        for phase in plan.phases
    }


def refusal(planned: Planned, **changes: Any) -> tuple[str, str]:
    with pytest.raises(SpecError) as caught:
        planned(**changes)
    (problem,) = caught.value.problems
    return problem.where, f"{problem.what}; {problem.fix}"


def test_a_phase_thaws_from_the_top_down_with_rates_that_decay(planned: Planned) -> None:
    plan = planned(phases=[phase(unfreeze={"by": "2 groups", "every": "2 epochs"})])

    found = trained(plan)

    assert list(found) == ["thaw-1", "thaw-2", "thaw-3", "thaw-4"]
    assert found["thaw-1"] == {"heads.label": 1e-3}
    assert found["thaw-2"] == pytest.approx({"layer3": 2e-4, "layer4": 4e-4, "heads.label": 1e-3})
    assert list(found["thaw-3"]) == ["layer1", "layer2", "layer3", "layer4", "heads.label"]
    assert found["thaw-4"] == pytest.approx(
        {
            "stem": 2.5e-5,
            "layer1": 5e-5,
            "layer2": 1e-4,
            "layer3": 2e-4,
            "layer4": 4e-4,
            "heads.label": 1e-3,
        }
    )


def test_thaws_share_the_length_and_the_last_takes_the_rest(planned: Planned) -> None:
    every = {"by": "50%", "every": "25 steps"}
    plan = planned(phases=[phase(unfreeze=every), phase(name="after")])

    # An epoch has 11 steps, and half of 5 groups are 3.
    assert [phase.num_steps for phase in plan.phases] == [25, 25, 38, 88]
    assert [phase.first_step for phase in plan.phases] == [0, 25, 50, 88]
    assert [phase.where for phase in plan.phases] == [
        "phases.0",
        "phases.0",
        "phases.0",
        "phases.1",
    ]
    assert [phase.index for phase in plan.phases] == [0, 1, 2, 3]


def test_each_thaw_has_the_schedule_and_the_rule_of_its_phase(planned: Planned) -> None:
    until = {"plateau": "validation/loss", "patience": 2}
    schedule = {"kind": "constant", "warmup": "3 steps"}
    plan = planned(phases=[phase(unfreeze={}, until=until, schedule=schedule)])

    assert len(plan.phases) == 6
    assert all(phase.schedule.factor(3) == 1 > phase.schedule.factor(2) for phase in plan.phases)
    assert all(one.until == plan.spec.phases[0].until for one in plan.spec.phases)
    assert plan.spec.phases[0].until is not None


def test_the_plan_says_which_thaws_a_plateau_can_end(planned: Planned) -> None:
    """Five thaws of one epoch each, and a last one of 4 or of 3 epochs."""
    until = {"plateau": "validation/loss", "patience": 2}
    for length, can_end in (("9 epochs", 1), ("8 epochs", 0)):
        plan = planned(phases=[phase(unfreeze={}, until=until, **{"for": length})])

        lines = plan_lines(plan)

        told = [line.strip() for line in lines if "earlier" in line]
        ends = "ends earlier when validation/loss has not improved for 2 epochs"
        too_short = "too short to end earlier after 2 epochs without improvement"
        assert told == [too_short] * (6 - can_end) + [ends] * can_end


def test_without_heads_the_topmost_group_trains_first(planned: Planned) -> None:
    plan = planned(phases=[phase(train=["last 2"], lr=1e-3, unfreeze={})])

    assert trained(plan) == {"thaw-1": {"layer4": 1e-3}, "thaw-2": {"layer3": 1e-3, "layer4": 1e-3}}


def test_what_is_left_is_a_plain_spec_that_loads_and_plans_alike(planned: Planned) -> None:
    from rayft.spec.load import spec_from_data

    phases = [phase(unfreeze={"by": "40%"}, **{"for": "60%"}), phase(name="last", **{"for": "40%"})]
    plan = planned(phases=phases, total="20 epochs")

    saved = plan.spec.model_dump(mode="json", by_alias=True)
    again = planned(phases=saved["phases"], total=saved["total"])

    assert spec_from_data(saved) == plan.spec
    assert all(one.unfreeze is None for one in plan.spec.phases)
    assert [(p.name, p.num_steps, p.ledger) for p in again.phases] == [
        (p.name, p.num_steps, p.ledger) for p in plan.phases
    ]


def test_a_spec_of_plain_phases_stays_as_it_is(planned: Planned) -> None:
    from tests.unit.plan.conftest import spec

    assert planned().spec == spec()


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"train": ["heads"], "lr": 1e-3}, "unfreeze", "heads.label would train from the start"),
        ({"train": ["layer4"], "lr": 1e-3}, "unfreeze", "layer4 would train from the start"),
        ({"for": "5 epochs"}, "unfreeze", "5 thaws, one every 1 epochs, leave no step of for: 5"),
        ({"train": ["heads", "lyer4"]}, "train.1", "did you mean layer4"),
        ({"lr": {"heads": 1e-3}}, "lr", "layer4 trains in this phase but the table gives it no"),
        ({"lr": {**TABLE, "layr1": 1}}, "lr.layr1", "did you mean layer1"),
        ({"lr": {"all": 1, "decay": 0.5}}, "lr.decay", "'decay' has no effect"),
    ],
)
def test_a_thaw_that_cannot_be_is_refused_where_it_was_written(
    planned: Planned, changes: dict[str, Any], where: str, message: str
) -> None:
    first = {"name": "probe", "train": ["heads"], "for": "1 epochs", "lr": 1e-2}

    found, text = refusal(planned, phases=[first, phase(unfreeze={}, **changes)])

    assert found == f"phases.1.{where}"
    assert message in text


def test_a_thaw_may_not_take_the_name_of_another_phase(planned: Planned) -> None:
    other = {"name": "thaw-2", "train": ["heads"], "for": "1 epochs", "lr": 1e-2}

    where, text = refusal(planned, phases=[phase(unfreeze={}), other])

    assert where == "phases.0.name"
    assert "unfreeze makes a phase 'thaw-2'" in text


def shares(*lengths: str) -> list[dict[str, Any]]:
    return [
        {"name": f"p{number}", "train": ["heads"], "for": length, "lr": 1e-2}
        for number, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(
    ("total", "lengths", "steps"),
    [
        ("10 epochs", ["30%", "70%"], [33, 77]),
        ("10 epochs", ["1 epochs", "90%"], [11, 99]),
        ("100 steps", ["33.3%", "33.3%", "33.4%"], [33, 34, 33]),
        ("7 steps", ["50%", "50%"], [4, 3]),
        ("1000 steps", ["0.1%", "99.9%"], [1, 999]),
    ],
)
def test_shares_of_the_whole_lose_no_step(
    planned: Planned, total: str, lengths: list[str], steps: list[int]
) -> None:
    plan = planned(phases=shares(*lengths), total=total)

    assert [phase.num_steps for phase in plan.phases] == steps


@pytest.mark.parametrize(
    ("total", "lengths", "where", "message"),
    [
        (
            "10 epochs",
            ["30%", "60%"],
            "total",
            "take 99 steps together, and total: 10 epochs is 110",
        ),
        ("10 epochs", ["50%", "60 steps"], "total", "take 115 steps together"),
        ("10 steps", ["1%", "99%"], "phases.0.for", "1% of 10 steps is less than one step"),
    ],
)
def test_lengths_that_do_not_fit_together_are_refused(
    planned: Planned, total: str, lengths: list[str], where: str, message: str
) -> None:
    found, text = refusal(planned, phases=shares(*lengths), total=total)

    assert found == where
    assert message in text


def test_a_later_phase_may_train_less(planned: Planned) -> None:
    plan = planned(
        phases=[
            phase(name="wide"),
            phase(name="narrow", train=["heads"], lr=1e-3),
            phase(name="one", train=["layer2"], lr=1e-3),
        ]
    )

    assert [list(groups) for groups in trained(plan).values()] == [
        ["stem", "layer1", "layer2", "layer3", "layer4", "heads.label"],
        ["heads.label"],
        ["layer2"],
    ]
