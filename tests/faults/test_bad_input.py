"""Bad input: one clear message with place and fix, exit code 2, nothing started, no run folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from rayft.cli.main import app
from rayft.models.model import make_model
from rayft.spec.run import RunSpec

GOOD: dict[str, Any] = {
    "name": "run",
    "data": {
        "train": {"kind": "folder", "path": "photos"},
        "validation": {"fraction": 0.3, "stratify": False},
        "image_size": 32,
    },
    "model": {
        "backbone": {"kind": "timm", "name": "test_efficientnet", "weights": "none"},
        "heads": {"label": {"kind": "classification"}},
    },
    "phases": [{"name": "probe", "train": ["heads"], "for": "1 epochs", "lr": 0.01}],
    "global_batch_size": 8,
    "scaling": {"num_workers": 0},
    "storage_path": "results",
}

Change = Callable[[dict[str, Any]], None]


def make_photos(folder: Path) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos")
    return tmp_path


def run(command: str, spec: dict[str, Any], *extra: str) -> tuple[int, str, dict[str, Any]]:
    Path("spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    found = CliRunner().invoke(app, [command, "spec.yaml", *extra, "--json"])
    lines = found.stdout.splitlines()
    return found.exit_code, found.stderr, json.loads(lines[-1]) if lines else {}


def put(path: str, value: Any) -> Change:
    """Return a change of the good spec at a dotted path."""

    def change(spec: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        target: Any = spec
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target.setdefault(key, {})
        target[last] = value

    return change


def only_one_class(spec: dict[str, Any]) -> None:
    for file in Path("photos/dog").iterdir():
        file.unlink()
    Path("photos/dog").rmdir()


def no_images(spec: dict[str, Any]) -> None:
    only_one_class(spec)
    for file in Path("photos/cat").iterdir():
        file.unlink()


def not_an_image(spec: dict[str, Any]) -> None:
    Path("photos/cat/3.png").write_text("<html>not found</html>")


def unseen_label(spec: dict[str, Any]) -> None:
    make_photos(Path("more"))
    Path("more/dog").rename("more/horse")
    spec["data"]["test"] = {"kind": "folder", "path": "more"}


def wrong_shape(spec: dict[str, Any]) -> None:
    model = make_model(RunSpec.model_validate(spec).model, num_classes=2, seed=0)
    state = {name: value.clone() for name, value in model.backbone.net.state_dict().items()}
    state["conv_stem.weight"] = torch.zeros(3, 3)
    save_file(state, "weights.safetensors")
    spec["model"]["backbone"]["weights"] = {"file": "weights.safetensors"}


def missing_column(spec: dict[str, Any]) -> None:
    Path("rows.csv").write_text("image,lable\nphotos/cat/1.png,cat\nphotos/dog/1.png,dog\n")
    spec["data"]["train"] = {"kind": "csv", "path": "rows.csv"}


def storage_is_a_file(spec: dict[str, Any]) -> None:
    Path("results").write_text("")


CASES: list[tuple[str, Change, tuple[str, ...]]] = [
    ("misspelt key", put("globl_batch_size", 8), ("spec.yaml:", "global_batch_size")),
    ("misspelt kind", put("data.train.kind", "foldr"), ("data.train.kind", "folder")),
    (
        "setting without effect",
        put("early_stopping", {"metric": "validation/los"}),
        ("early_stopping.metric", "validation/loss"),
    ),
    (
        "rate without effect",
        put("phases.0.lr", {"heads": 0.1, "backbone": 0.1}),
        ("spec.yaml:", "phases.0.lr.backbone", "no effect"),
    ),
    (
        "unknown backbone",
        put("model.backbone", {"kind": "torchvision", "name": "resnet81", "weights": "none"}),
        ("model.backbone.name", "resnet18"),
    ),
    (
        "pattern without a match",
        put("phases.0.train", ["heads", "layer9"]),
        ("spec.yaml:", "phases.0.train.1", "matches no group"),
    ),
    (
        "batch that cannot be shared",
        lambda s: s.update(global_batch_size=9, scaling={"num_workers": 2}),
        ("global_batch_size", "set it to 8 or 10"),
    ),
    (
        "more workers than the machine has CPUs",
        put("scaling", {"num_workers": 999, "resources_per_worker": {"CPU": 1}}),
        ("scaling.num_workers", "999 workers need 999 CPUs"),
    ),
    (
        "missing folder",
        put("data.train.path", "fotos"),
        ("spec.yaml:", "data.train", "fotos"),
    ),
    ("empty folder", no_images, ("photos",)),
    ("one class", only_one_class, ("class",)),
    ("not an image", not_an_image, ("cat/3.png", "bad_rows.limit")),
    ("label unseen in training", unseen_label, ("spec.yaml:", "horse", "data.test")),
    ("weights of the wrong shape", wrong_shape, ("conv_stem.weight", "[3, 3]")),
    (
        "missing weights",
        put("model.backbone.weights", {"file": "nowhere.safetensors"}),
        ("nowhere.safetensors",),
    ),
    ("missing column", missing_column, ("lable", "label")),
    ("storage that cannot be written", storage_is_a_file, ("storage_path", "results")),
    ("too many rows taken", put("data.test", {"fraction": 0.8}), ("data", "fraction")),
    (
        "gpu that is not there",
        put("scaling", {"num_workers": 1, "use_gpu": True}),
        ("GPU",),
    ),
    (
        "gpu that the calling process does not have",
        put("scaling", {"num_workers": 0, "use_gpu": True}),
        ("spec.yaml:", "scaling.use_gpu", "has none"),
    ),
]
if torch.cuda.is_available():
    del CASES[-2:]


@pytest.mark.parametrize(("change", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bad_input_is_refused_before_anything_starts(
    place: Path, change: Change, expected: tuple[str, ...]
) -> None:
    spec = json.loads(json.dumps(GOOD))
    change(spec)

    code, text, result = run("train", spec)

    assert code == 2, text
    assert "Traceback" not in text
    assert "fix: " in text
    assert result["status"] == "refused"
    for words in expected:
        assert words in text, text
    assert not (place / "results" / "run").exists()
    assert not list(place.glob("results/.stores/*/manifest.json"))


@pytest.mark.parametrize("command", ["validate", "plan", "prepare"])
def test_the_other_commands_refuse_alike(place: Path, command: str) -> None:
    code, text, result = run(command, {**GOOD, "globl_batch_size": 8})

    assert (code, result["status"]) == (2, "refused")
    assert "did you mean global_batch_size" in text


def test_following_the_fix_is_enough(place: Path) -> None:
    not_an_image(GOOD)
    refused, text, _ = run("train", GOOD)

    code, text, result = run("train", GOOD, "data.bad_rows.limit=0.1")

    assert refused == 2
    assert code == 0, text
    assert result["status"] == "finished"


def test_a_checkpoint_of_another_spec_is_refused_with_the_differences(place: Path) -> None:
    assert run("train", GOOD)[0] == 0

    code, text, _ = run("train", GOOD, "seed=7", "phases.0.lr=0.5")

    assert code == 2
    assert "seed: 0 -> 7" in text
    assert "phases.0.lr: 0.01 -> 0.5" in text


def test_evaluate_refuses_what_is_no_checkpoint_and_a_split_that_is_not_there(place: Path) -> None:
    assert run("train", GOOD)[0] == 0

    nothing = CliRunner().invoke(app, ["evaluate", "photos"])
    no_split = CliRunner().invoke(app, ["evaluate", "results/run", "--split", "test"])

    assert (nothing.exit_code, no_split.exit_code) == (2, 2)
    assert "found neither" in nothing.stderr
    assert "has no test split; it has train, validation" in no_split.stderr


def test_evaluate_writes_no_report_over_a_folder(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["evaluate", "results/run", "--report", str(tmp_path)])

    assert found.exit_code == 2
    assert found.stderr == (
        f"error: --report: {tmp_path} is a folder\n"
        f"  fix: name a file in it, such as {tmp_path / 'report.json'}\n"
    )


def test_evaluate_tells_figures_classes_and_the_rows_by_name(place: Path) -> None:
    trained = run("train", GOOD)[2]

    found = CliRunner().invoke(
        app, ["evaluate", "results/run", "--split", "validation", "--report", "r.json", "--json"]
    )

    assert found.exit_code == 0, found.stderr
    result = json.loads(found.stdout.splitlines()[-1])
    for name, value in result["metrics"].items():
        assert value == pytest.approx(trained["metrics"][name]), name
    assert json.loads(Path("r.json").read_text())["report"]["confusion"]
    assert result["report"]["worst_rows"][0]["source"].endswith(".png")
    assert "precision" in found.stderr


def test_a_run_goes_on_from_another_by_its_folder(place: Path) -> None:
    assert run("train", GOOD)[0] == 0
    backbone = {**GOOD["model"]["backbone"], "weights": {"checkpoint": "results/run"}}

    code, text, result = run(
        "train", {**GOOD, "name": "second", "model": {**GOOD["model"], "backbone": backbone}}
    )

    assert code == 0, text
    assert result["status"] == "finished"


def test_debug_shows_the_traceback_and_keeps_the_exit_code(place: Path) -> None:
    Path("spec.yaml").write_text(yaml.safe_dump({**GOOD, "nmae": 1}))

    found = CliRunner().invoke(app, ["validate", "spec.yaml", "--debug"])

    assert found.exit_code == 2
    assert "Traceback" in found.stderr


def test_init_writes_a_spec_that_trains_unedited(place: Path) -> None:
    written = CliRunner().invoke(app, ["init", "--data", "photos"])
    again = CliRunner().invoke(app, ["init", "--data", "photos"])
    # Two epochs at 32 px are enough to see that nothing has to be edited.
    changes = ["storage_path=results", "scaling.num_workers=0", "data.image_size=32"]
    changes += ["phases.1.for=1 epochs"]
    trained = CliRunner().invoke(app, ["train", "photos.yaml", *changes, "--json"])

    assert written.exit_code == 0, written.stderr
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert trained.exit_code == 0, trained.stderr
    assert json.loads(trained.stdout.splitlines()[-1])["status"] == "finished"
