"""`rayft init`: what it writes validates and plans as it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from rayft.cli.main import app
from rayft.spec.load import load_spec

BACKBONE = "timm/test_efficientnet"
RECIPES = ("auto", "linear-probe", "lp-ft", "gradual", "full")

_PLAN_ALL = """
import sys
from typer.testing import CliRunner
from rayft.cli.main import app

for file in sys.argv[1:]:
    for command in ("validate", "plan"):
        found = CliRunner().invoke(app, [command, file, "storage_path=results"])
        print(found.output)
        assert found.exit_code == 0, (command, file, found.output, found.stderr)
"""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for index in range(60):
        folder = Path("photos") / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (48, 56, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return Path("photos")


def init(*words: object) -> Result:
    return CliRunner().invoke(app, ["init", "--data", *map(str, words)])


def written(photos: Path, *words: object) -> dict[str, Any]:
    found = init(photos, *words, "--json")
    assert found.exit_code == 0, found.output
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return result


# The shell imports Ray, which is blocked in this process: another one plans them all.
@pytest.mark.timeout(400)
def test_every_recipe_validates_and_plans_unedited(photos: Path) -> None:
    files = []
    for recipe in RECIPES:
        for library in ("timm/test_efficientnet", "torchvision/resnet18"):
            file = f"{recipe}-{library.rpartition('/')[2]}.yaml"
            written(photos, "--recipe", recipe, "--backbone", library, "-o", file)
            files.append(file)

    planned = subprocess.run(
        [sys.executable, "-c", _PLAN_ALL, *files], capture_output=True, text=True, check=False
    )

    assert planned.returncode == 0, planned.stderr
    assert "thaw-1" in planned.stdout
    assert "warning: the backbone starts from RANDOM" not in planned.stdout


@pytest.mark.parametrize(
    ("folder", "name"),
    [("2024", "2024"), ("2024-01-05", "2024-01-05"), ("null", "null"), ("x" * 200, "x" * 64)],
)
def test_a_run_may_be_called_as_any_folder_is(photos: Path, folder: str, name: str) -> None:
    file = written(photos.rename(folder), "--backbone", BACKBONE)["spec"]

    assert file == f"{name}.yaml"
    assert load_spec(Path(file)).spec.name == name


def test_the_steps_that_it_tells_are_those_of_an_epoch(photos: Path) -> None:
    file = Path(written(photos, "--backbone", BACKBONE)["spec"])

    # 60 images, less a fifth for validation and one for test, in batches of 8.
    assert "# About 5 steps in an epoch;" in file.read_text()


def test_auto_says_what_it_chose_and_why(photos: Path) -> None:
    found = init(photos, "--recipe", "auto", "--backbone", BACKBONE)

    assert found.exit_code == 0
    assert "recipe linear-probe: about 12 training rows in each class" in found.stdout
    text = Path("photos.yaml").read_text()
    assert "# rayft init --data photos --recipe auto --backbone timm/test_efficientnet" in text
    assert "# recipe linear-probe: about 12 training rows in each class, fewer than 20" in text
    assert "# groups of timm/test_efficientnet, input side first: stem" in text


def test_the_head_is_trained_first_unless_asked_otherwise(photos: Path) -> None:
    assert written(photos, "--backbone", BACKBONE)["recipe"] == "lp-ft"

    phases = load_spec("photos.yaml").spec.phases

    assert [phase.name for phase in phases] == ["probe", "finetune"]
    assert phases[0].train == ("heads",)


def test_a_bare_name_is_found_in_either_library(photos: Path) -> None:
    for name, kind in (("resnet18", "torchvision"), ("test_efficientnet", "timm")):
        written(photos, "--backbone", name, "--force")

        assert load_spec("photos.yaml").spec.model.backbone.kind == kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision/resnet19", "resnet18"),
        ("timm/resnet19", "resnet18"),
        ("keras/resnet50", "write torchvision/NAME or timm/NAME"),
    ],
)
def test_an_unknown_backbone_is_refused_with_the_nearest(
    photos: Path, name: str, message: str
) -> None:
    found = init(photos, "--backbone", name)

    assert found.exit_code == 2
    assert message in found.stderr
    assert not Path("photos.yaml").exists()


def test_an_existing_file_is_kept(photos: Path) -> None:
    Path("photos.yaml").write_text("mine")

    found = init(photos, "--backbone", BACKBONE)

    assert found.exit_code == 2
    assert Path("photos.yaml").read_text() == "mine"
