"""Names and values of settings in few words."""

import pytest

from rayft.plan.trials import Json
from rayft.runtime.sweep_words import short_names, value_text, words_for


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["phases.0.lr"], ["lr"]),
        (["phases.0.lr", "phases.1.lr"], ["phases.0.lr", "phases.1.lr"]),
        (["phases.1.lr.heads", "phases.1.lr.backbone"], ["heads", "backbone"]),
        (["optimizer.weight_decay", "seed"], ["weight_decay", "seed"]),
        (["schedule.kind", "optimizer.kind"], ["schedule.kind", "optimizer.kind"]),
        (["kind", "optimizer.kind"], ["kind", "optimizer.kind"]),
        (["model.backbone.name", "mix.0.kind"], ["backbone.name", "mix.0.kind"]),
        (["augment.0"], ["augment.0"]),
        (["phases"], ["phases"]),
    ],
)
def test_a_name_is_the_shortest_ending_that_is_unique(paths: list[str], names: list[str]) -> None:
    assert list(short_names(paths).values()) == names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123456, "0.00123"),
        (1e-05, "1e-05"),
        (256, "256"),
        (True, "true"),
        (None, "null"),
        ("2 epochs", "2 epochs"),
        (["heads", "last 6"], "[heads, last 6]"),
        ({"kind": "sgd", "momentum": 0.9}, "{kind: sgd, momentum: 0.9}"),
    ],
)
def test_a_value_reads_as_in_the_file(value: Json, text: str) -> None:
    assert value_text(value) == text


def test_long_values_are_numbered_and_explained() -> None:
    long = [["heads", "layer1", "layer2", "layer3"], ["heads", "layer2", "layer3", "layer4"]]

    words = words_for([["all"], long[0], long[1], long[0]])

    assert [words.word(value) for value in (["all"], *long)] == ["[all]", "#1", "#2"]
    assert words.legend() == {
        "#1": "[heads, layer1, layer2, layer3]",
        "#2": "[heads, layer2, layer3, layer4]",
    }
