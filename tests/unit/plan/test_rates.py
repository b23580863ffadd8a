"""`lr` tables with groups by name, range, position and band."""

import pytest

from rayft.errors import SpecError
from rayft.plan.rates import group_rates, with_effect
from rayft.plan.selectors import GroupNames

NAMES = GroupNames(("stem", "layer1", "layer2", "layer3", "layer4"), ("label",))
ALL = NAMES.all()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"heads": 9, "backbone": 8, "decay": 0.5}, [0.5, 1, 2, 4, 8, 9]),
        ({"heads": 9, "backbone": 8, "layer2..layer3": 1}, [8, 8, 1, 1, 8, 9]),
        ({"heads": 9, "backbone": 8, "decay": 0.5, "layer4": 1}, [0.5, 1, 2, 4, 1, 9]),
        ({"heads": 9, "base": 1, "middle": 2, "top": 3}, [1, 2, 2, 3, 3, 9]),
        ({"heads": 9, "bottom 40%": 1, "last 3": 2}, [1, 1, 2, 2, 2, 9]),
        ({"heads.label": 9, "all": 1}, [1, 1, 1, 1, 1, 9]),
        ({"heads": 9, "first 5": 2, "layer1": 1}, [2, 1, 2, 2, 2, 9]),
        # A name goes before a pattern, wherever they stand in the table.
        ({"layer3": 7, "heads": 9, "layer2..layer4": 1, "backbone": 2}, [2, 2, 1, 7, 1, 9]),
    ],
)
def test_a_table_gives_every_group_its_rate(table: dict[str, float], expected: list[float]) -> None:
    rates = group_rates(table, ALL, NAMES, where="phases.0.lr")

    assert list(rates) == list(ALL)
    assert list(rates.values()) == pytest.approx(expected)


def test_the_order_of_a_table_does_not_matter() -> None:
    table = {"heads": 9.0, "backbone": 2.0, "decay": 0.5, "layer3": 7.0, "layer2..layer4": 1.0}
    turned = dict(reversed(table.items()))

    assert group_rates(table, ALL, NAMES, where="lr") == group_rates(turned, ALL, NAMES, where="lr")


@pytest.mark.parametrize(
    ("trained", "table", "where", "message"),
    [
        (ALL, {"heads": 1, "backbon": 1}, "lr.backbon", "did you mean backbone"),
        (ALL, {"heads": 1, "backbone": 1, "decya": 1}, "lr.decya", "did you mean decay"),
        (ALL, {"heads": 1, "backbone": 1, "layr4": 1}, "lr.layr4", "did you mean layer4"),
        (ALL, {"heads": 1, "backbone": 1, "midle": 1}, "lr.midle", "did you mean middle"),
        # A key with dots cannot stand in a path: the table is named instead.
        (ALL, {"heads": 1, "backbone": 1, "layer2..layr4": 1}, "lr", "did you mean layer4"),
        (ALL, {"heads": 1, "backbone": 1, "layer2..heads": 1}, "lr", "'heads' matches no group"),
        (ALL, {"heads": 1, "top": 1, "last 1": 2, "backbone": 1}, "lr", "give layer4 different"),
        (ALL, {"heads": 1, "backbone": 1, "first 5": 2}, "lr.backbone", "with rates from first 5"),
        (ALL, {"heads": 1, "heads.label": 2, "backbone": 1}, "lr.heads", "no effect"),
        (ALL, {"heads": 1, "top": 1, "layer3": 2, "layer4": 2, "backbone": 1}, "lr.top", "no eff"),
        (ALL[3:], {"heads": 1, "backbone": 1, "stem": 1}, "lr.stem", "no effect"),
        (ALL[3:], {"heads": 1, "layer3": 1, "layer4": 1, "decay": 0.5}, "lr.decay", "no effect"),
        (ALL[4:], {"heads": 1, "backbone": 1, "layer1..layer2": 1}, "lr", "has no effect"),
    ],
)
def test_a_key_that_is_wrong_or_idle_is_refused(
    trained: tuple[str, ...], table: dict[str, float], where: str, message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        group_rates(table, trained, NAMES, where="lr")

    (problem,) = caught.value.problems
    assert problem.where == where
    assert message in f"{problem.what}; {problem.fix}"
    assert "heads or heads" not in problem.fix


def test_several_problems_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        group_rates({"heads": 1, "stem": 1, "decay": 2}, ALL[3:], NAMES, where="lr")

    assert [problem.where for problem in caught.value.problems] == [
        "lr.stem",
        "lr.decay",
        "lr",
        "lr",
    ]


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        (ALL[5:], {"heads": 1}),
        (ALL[4:], {"heads": 1, "backbone": 2}),
        (ALL[3:], {"heads": 1, "backbone": 2, "decay": 0.5}),
        (ALL, {"heads": 1, "backbone": 2, "decay": 0.5, "stem": 3}),
    ],
)
def test_a_table_is_cut_to_what_trains(
    trained: tuple[str, ...], expected: dict[str, float]
) -> None:
    table = {"heads": 1.0, "backbone": 2.0, "decay": 0.5, "stem": 3.0}

    assert with_effect(table, trained, NAMES, where="lr") == expected
    assert with_effect(0.1, trained, NAMES, where="lr") == 0.1
