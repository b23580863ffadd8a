"""Weights of classes in the loss: given, or from the rows there are."""

from collections.abc import Callable
from typing import Any

import pytest

from rayft.errors import SpecError
from rayft.plan.run_plan import RunPlan
from tests.unit.plan.conftest import model_facts, planned, spec

__all__ = ["model_facts", "planned"]

DATA = spec().model_dump(mode="json", by_alias=True)["data"]


def planned_weights(planned: Callable[..., RunPlan], wanted: Any) -> tuple[float, ...] | None:
    model = {
        "backbone": {"kind": "torchvision", "name": "resnet18"},
        "heads": {"label": {"kind": "classification", "class_weights": wanted}},
    }
    return planned(model=model).class_weights["label"]


def test_auto_lets_all_classes_weigh_alike(planned: Callable[..., RunPlan]) -> None:
    # 100 cats and 3 dogs.
    found = planned_weights(planned, "auto")

    assert found is not None
    assert 100 * found[0] == pytest.approx(3 * found[1])
    assert 100 * found[0] + 3 * found[1] == pytest.approx(103)


def test_named_classes_weigh_what_they_are_told_and_the_others_1(
    planned: Callable[..., RunPlan],
) -> None:
    assert planned_weights(planned, {"dog": 7.5}) == (1.0, 7.5)
    assert planned_weights(planned, "none") is None


def test_a_class_that_the_data_lacks_is_refused_with_the_nearest(
    planned: Callable[..., RunPlan],
) -> None:
    with pytest.raises(SpecError) as caught:
        planned_weights(planned, {"dgo": 2.0, "bird": 3.0})

    where = [problem.where for problem in caught.value.problems]
    assert where == ["model.heads.label.class_weights.bird", "model.heads.label.class_weights.dgo"]
    assert "dog" in caught.value.problems[1].fix


def test_auto_is_refused_where_classes_come_equally_often_already(
    planned: Callable[..., RunPlan],
) -> None:
    model = {
        "backbone": {"kind": "torchvision", "name": "resnet18"},
        "heads": {"label": {"kind": "classification", "class_weights": "auto"}},
    }

    with pytest.raises(SpecError) as caught:
        planned(model=model, data={**DATA, "order": "balanced"})

    (problem,) = caught.value.problems
    assert problem.where == "model.heads.label.class_weights"
    assert problem.fix == "remove it, or set data.order to permutation"
