from typing import Any

import pytest

from rayft.errors import SpecError
from rayft.plan.facts import ModelFacts
from rayft.plan.ledger import make_ledger
from rayft.spec.training import PhaseSpec


def phase(train: list[str], lr: Any) -> PhaseSpec:
    return PhaseSpec.model_validate({"name": "p", "train": train, "for": "1 epochs", "lr": lr})


@pytest.mark.parametrize("train", [["heads"], ["last 2"], ["all"], ["base"], ["heads", "layer1"]])
def test_every_parameter_stands_in_the_ledger_once(
    model_facts: ModelFacts, train: list[str]
) -> None:
    ledger = make_ledger(phase(train, 0.1), model_facts, weight_decay=0.1, where="phases.0")

    names = [rule.name for rule in ledger.params]

    everything = [p.name for g in (*model_facts.groups, *model_facts.heads) for p in g.params]
    assert sorted(names) == sorted(everything)
    assert ledger.trainable_params + ledger.frozen_params == 5 * 120 + 55


def test_rates_decay_with_the_distance_from_the_heads(model_facts: ModelFacts) -> None:
    table = {"heads": 1.0, "backbone": 0.1, "decay": 0.5}

    ledger = make_ledger(
        phase(["heads", "last 3"], table), model_facts, weight_decay=0, where="phases.0"
    )

    rates = {group.name: group.lr for group in ledger.groups}
    assert rates == pytest.approx(
        {
            "stem": 0,
            "layer1": 0,
            "layer2": 0.025,
            "layer3": 0.05,
            "layer4": 0.1,
            "heads.label": 1.0,
        }
    )


def test_a_group_named_in_the_table_has_its_own_rate(model_facts: ModelFacts) -> None:
    table = {"heads": 1.0, "backbone": 0.1, "decay": 0.5, "layer3": 0.7}

    ledger = make_ledger(phase(["heads", "last 3"], table), model_facts, weight_decay=0, where="p")

    assert {g.name: g.lr for g in ledger.groups if g.trains} == pytest.approx(
        {"layer2": 0.025, "layer3": 0.7, "layer4": 0.1, "heads.label": 1.0}
    )


def test_norms_biases_and_frozen_parameters_do_not_decay(model_facts: ModelFacts) -> None:
    ledger = make_ledger(phase(["heads", "layer4"], 0.1), model_facts, weight_decay=0.3, where="p")

    decayed = {rule.name for rule in ledger.params if rule.weight_decay}

    assert decayed == {"backbone.net.layer4.conv.weight", "heads.label.weight"}


@pytest.mark.parametrize(
    ("train", "table", "path", "message"),
    [
        (["heads"], {"heads": 1, "backbone": 1}, "p.lr.backbone", "'backbone' has no effect"),
        (["layer4"], {"heads": 1, "backbone": 1}, "p.lr.heads", "'heads' has no effect"),
        (["layer4"], {"backbone": 1, "decay": 0.5}, "p.lr.decay", "'decay' has no effect"),
        (["heads", "layer4"], {"heads": 1, "backbone": 1, "stem": 1}, "p.lr.stem", "no effect"),
        (["heads", "layer4"], {"heads": 1}, "p.lr", "layer4 trains in this phase but the table"),
        (["heads", "last 2"], {"heads": 1, "backbone": 1, "decay": 2}, "p.lr.decay", "grow"),
        (["heads"], {"hedas": 1}, "p.lr.hedas", "did you mean heads"),
    ],
)
def test_a_rate_without_effect_or_a_group_without_rate_is_refused(
    model_facts: ModelFacts, train: list[str], table: dict[str, float], path: str, message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        make_ledger(phase(train, table), model_facts, weight_decay=0, where="p")

    (problem,) = caught.value.problems
    assert problem.where == path
    assert message in f"{problem.what} {problem.fix}"
