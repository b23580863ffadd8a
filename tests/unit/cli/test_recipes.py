"""What `rayft init` writes for data of some size."""

from typing import Any, get_args

import pytest
import yaml

from rayft.cli.recipes import Recipe, RecipeName, Size, make_recipe
from rayft.spec.run import RunSpec

NAMES: tuple[RecipeName, ...] = get_args(RecipeName)


def size(rows: int, *, classes: int = 10, groups: int = 5, batch_size: int = 32) -> Size:
    return Size(rows=rows, classes=classes, batch_size=batch_size, groups=groups, image_size=96)


def sections(recipe: Recipe) -> dict[str, Any]:
    parts = (recipe.augment, recipe.phases, recipe.optimizer, recipe.schedule, recipe.ema)
    text = "\n".join((*parts, f"head: {{{recipe.head}}}"))
    found: dict[str, Any] = yaml.safe_load(text.replace("1e-", "1.0e-").replace("3e-", "3.0e-"))
    return found


@pytest.mark.parametrize(
    ("rows", "classes", "expected"),
    [
        (190, 10, "linear-probe"),
        (200, 10, "lp-ft"),
        (4990, 10, "lp-ft"),
        (5000, 10, "full"),
        (50_000, 1000, "lp-ft"),
        (10, 1000, "linear-probe"),
    ],
)
def test_auto_goes_by_the_rows_of_each_class(rows: int, classes: int, expected: str) -> None:
    recipe = make_recipe("auto", size(rows, classes=classes))

    assert recipe.name == expected
    assert "training rows in each class" in recipe.why


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 14, 19, 26])
@pytest.mark.parametrize("rows", [1, 30, 600, 5_000, 100_000])
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_a_spec_with_a_reason_for_each_choice(
    name: RecipeName, rows: int, groups: int
) -> None:
    recipe = make_recipe(name, size(rows, groups=groups))
    found = sections(recipe)
    head = found.pop("head")
    raw = {
        "name": "run",
        "data": {"train": {"kind": "folder", "path": "photos"}},
        "model": {
            "backbone": {"kind": "torchvision", "name": "resnet18"},
            "heads": {"label": head},
        },
        **found,
    }

    RunSpec.model_validate(raw)

    parts = (recipe.augment, recipe.phases, recipe.optimizer, recipe.schedule, recipe.ema)
    assert all(part.startswith("# ") for part in parts)
    assert recipe.head_why
    assert all(len(line) <= 110 for part in parts for line in part.splitlines())


def test_more_rows_get_fewer_epochs_and_more_of_everything_else() -> None:
    few, many = (sections(make_recipe("full", size(rows))) for rows in (300, 100_000))

    assert (few["phases"][0]["for"], many["phases"][0]["for"]) == ("30 epochs", "5 epochs")
    assert (few["optimizer"]["weight_decay"], many["optimizer"]["weight_decay"]) == (0.1, 0.05)
    assert "ema" not in few
    assert many["ema"] == {"decay": 0.999}
    assert "label_smoothing" not in few["head"]
    assert many["head"]["label_smoothing"] == 0.1
    assert few["augment"][0]["scale"][0] > many["augment"][0]["scale"][0]


@pytest.mark.parametrize(("groups", "by", "epochs"), [(5, "2 groups", 13), (4, "1 group", 14)])
def test_gradual_thaws_in_at_most_four_steps(groups: int, by: str, epochs: int) -> None:
    phase = sections(make_recipe("gradual", size(600, groups=groups)))["phases"][0]

    assert phase["unfreeze"] == {"by": by, "every": "1 epochs"}
    assert phase["for"] == f"{epochs} epochs"


def test_the_lowest_group_of_a_deep_backbone_learns_at_a_twentieth() -> None:
    for groups in (8, 14, 26):
        lr = sections(make_recipe("full", size(600, groups=groups)))["phases"][0]["lr"]

        assert lr["decay"] ** (groups - 1) == pytest.approx(0.05, rel=0.2)
