"""`rayft find-lr`: the same figures every time, a setting to paste, and nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

pytestmark = pytest.mark.timeout(400)

# The shell imports Ray, which is blocked in this process; nothing here starts it.
_CALL = """
import json, sys
from typer.testing import CliRunner
from rayft.cli.main import app

results = []
for words in json.loads(sys.argv[1]):
    found = CliRunner().invoke(app, words)
    results.append([found.exit_code, found.stdout, found.stderr])
import ray
assert not ray.is_initialized()
print(json.dumps(results))
"""

SPEC: dict[str, Any] = {
    "name": "run",
    "storage_path": "results",
    "data": {
        "train": {"kind": "folder", "path": "photos"},
        "validation": {"fraction": 0.2},
        "image_size": 32,
    },
    "augment": [{"kind": "horizontal_flip"}],
    "model": {
        "backbone": {"kind": "timm", "name": "test_efficientnet", "weights": "none"},
        "heads": {"label": {"kind": "classification"}},
    },
    "phases": [
        {"name": "probe", "train": ["heads"], "for": "1 epochs", "lr": 0.01},
        {
            "name": "thaw",
            "train": ["heads", "last 2"],
            "for": "4 epochs",
            "unfreeze": {},
            "lr": {"heads": 2e-3, "backbone": 1e-3, "decay": 0.5},
        },
    ],
    "global_batch_size": 12,
    "ema": {"decay": 0.9},
    "scaling": {"num_workers": 2, "resources_per_worker": {"CPU": 1}},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for index in range(60):
        folder = Path("photos") / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (32, 32, 3), np.uint8)
        pixels[:, :, index % 3] += 120
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    return tmp_path


def call(*commands: list[str]) -> list[tuple[int, str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", _CALL, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(found) for found in json.loads(done.stdout.splitlines()[-1])]


def result(found: tuple[int, str, str]) -> dict[str, Any]:
    code, stdout, stderr = found
    assert code == 0, stderr
    values: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return values


def test_a_rate_is_found_twice_alike_and_nothing_is_left_behind(place: Path) -> None:
    command = ["find-lr", "spec.yaml", "--steps", "60", "--json"]
    thaw = [*command, "--phase", "thaw-2", "-o", "thaw.png"]

    first, second, drawn, planned = call(
        command, command, thaw, ["find-lr", "spec.yaml", "--steps", "60"]
    )

    found, again, in_thaw = result(first), result(second), result(drawn)
    assert found == again
    assert found["status"] == "found"
    assert found["phase"] == "probe"
    assert found["setting"].startswith("phases.0.lr=")
    assert found["rates"][0] == pytest.approx(1e-7)
    assert found["suggestion"]["rate"] <= found["suggestion"]["lowest"] / 9.9
    assert in_thaw["setting"].startswith("phases.1.lr={heads: ")
    assert "the phases before thaw-2 have not run" in in_thaw["start"]
    with Image.open("thaw.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(10_000) or ()) > 4
    text = planned[1]
    assert f"  {found['setting']}\n" in text
    assert f"next: rayft plan spec.yaml {found['setting']}" in text
    # The rows are prepared, as `rayft prepare` would; there is no run.
    assert [path.name for path in Path("results").iterdir() if path.name[0] != "."] == []


def test_what_is_asked_for_wrongly_is_refused_before_anything_starts(place: Path) -> None:
    unknown, checkpoint, picture, folder = call(
        ["find-lr", "spec.yaml", "--phase", "thaw"],
        ["find-lr", "spec.yaml", "--checkpoint", "nowhere"],
        ["find-lr", "spec.yaml", "-o", "curve.jpg"],
        ["find-lr", "spec.yaml", "-o", "no/curve.png"],
    )

    assert "the run has no phase 'thaw'; it has probe, thaw-1, thaw-2, thaw-3" in unknown[2]
    assert "did you mean thaw-" in unknown[2]
    assert "found neither" in checkpoint[2]
    assert "write curve.png" in picture[2]
    assert "no/curve.png: its folder is not there or not writable" in folder[2]
    assert {found[0] for found in (unknown, checkpoint, picture, folder)} == {2}
    assert not Path("results/.stores").exists()


def test_a_checkpoint_gives_the_weights_to_start_from(place: Path) -> None:
    train = ["train", "spec.yaml", "scaling.num_workers=0", "scaling.resources_per_worker={}"]
    command = ["find-lr", "spec.yaml", "--phase", "thaw-3", "--steps", "30", "--json"]
    trained, evaluated, without, within, other = call(
        [*train, "--json"],
        ["evaluate", "results/run", "--split", "validation", "--json"],
        command,
        [*command, "--checkpoint", "results/run"],
        [*command, "--checkpoint", "results/run", "model.backbone.name=test_vit"],
    )

    # The thaws are phases of the run, and its checkpoint is enough by itself.
    names = [phase["name"] for phase in result(trained)["phases"]]
    assert names == ["probe", "thaw-1", "thaw-2", "thaw-3"]
    assert result(evaluated)["status"] == "evaluated"
    # Where nothing can be suggested it says so: only the start matters here.
    assert "have not run" in without[1] + without[2]
    assert "a checkpoint after" in within[1] + within[2]
    assert other[0] == 2
    assert "another network than the spec" in other[2]
