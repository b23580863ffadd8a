"""`rayft predict` as people and scripts see it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from rayft.cli.main import app
from rayft.cli.predict import PredictProgress, column_names, number_or_auto
from rayft.errors import SpecError
from rayft.storage.location import Location
from tests.unit.runtime.predicting import make_checkpoint, make_photos, predictions


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)])


@pytest.fixture
def run(tmp_path: Path) -> Location:
    return make_checkpoint(Location(str(tmp_path / "run")))


def test_people_read_where_the_result_is_and_what_was_wrong(run: Location, tmp_path: Path) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 6, bad=(4,))
    out = tmp_path / "out"

    found = call(run, photos, "-o", out, "--workers", 0, "--top", 2)

    assert found.exit_code == 0
    assert "predicted: 6 rows in 1 part\n" in found.output
    assert "warning: 1 of 6 images cannot be read" in found.output
    assert f"{photos}/0004.png: it is no image" in found.output
    assert f"next: pandas.read_parquet('{out}')" in found.output
    assert [len(row["top_labels"] or ()) for row in predictions(out)] == [2, 2, 2, 2, 0, 2]
    again = call(run, photos, "-o", out, "--workers", 0, "--top", 2)
    assert "already finished: 6 rows in 1 part" in again.output


def test_scripts_read_one_line(run: Location, tmp_path: Path) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 3)

    found = call(run, photos, "-o", tmp_path / "out", "--workers", 0, "--json")

    (line,) = found.stdout.splitlines()
    result = json.loads(line)
    assert (result["status"], result["rows"], result["errors"]) == ("predicted", 3, 0)
    assert result["output"] == str(tmp_path / "out")
    assert {"checkpoint", "parts", "classes", "rows_per_s", "seconds"} <= result.keys()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--workers", "many"], "--workers: expected a whole number or auto, found 'many'"),
        (["--batch-size", "1.5"], "--batch-size: expected a whole number or auto, found '1.5'"),
        (["--batch-size", "0"], "--batch-size: expected 1 or more, found 0"),
        (["--columns", "id", "--workers", "0"], "--columns: it has no effect on image files"),
        (["--top", "4", "--workers", "0"], "--top: the model knows 3 classes"),
    ],
)
def test_a_wrong_option_is_refused_with_code_2(
    run: Location, tmp_path: Path, words: list[str], what: str
) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 3)

    found = call(run, photos, "-o", tmp_path / "out", *words)

    assert found.exit_code == 2
    assert what in found.stderr
    assert "fix: " in found.stderr
    assert not (tmp_path / "out").exists()


def test_several_inputs_and_columns(run: Location, tmp_path: Path) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 4)
    (tmp_path / "t.csv").write_text("id,image,label\n7,photos/0001.png,ant\n")

    files = call(run, photos / "0001.png", photos / "0003.png", "-o", tmp_path / "a")
    some = call(run, tmp_path / "t.csv", "-o", tmp_path / "b", "--columns", "id,image")
    both = call(run, tmp_path / "t.csv", "-o", tmp_path / "c", "--prefix", "p_", "--columns", "all")

    assert (files.exit_code, some.exit_code, both.exit_code) == (0, 0, 0)
    assert len(predictions(tmp_path / "a")) == 2
    assert [*predictions(tmp_path / "b")[0]][:3] == ["id", "image", "label"]
    assert [*predictions(tmp_path / "c")[0]][2:4] == ["label", "p_label"]


def test_names_and_numbers() -> None:
    assert column_names("all") == "all"
    assert column_names("a,b c") == ("a", "b c")
    assert column_names("") == ()
    assert number_or_auto("--workers", "auto") == "auto"
    assert number_or_auto("--workers", "3") == 3
    with pytest.raises(SpecError):
        number_or_auto("--workers", "")


def test_progress_says_how_far_and_how_fast_at_most_every_ten_seconds() -> None:
    now = 0.0
    text = io.StringIO()

    def clock() -> float:
        return now

    with PredictProgress(Console(file=text, width=100), clock=clock) as progress:
        progress.on_stage("predicting")
        for done in range(1000, 5001, 100):
            progress.on_rows(done, 5000)
            now += 1

    assert text.getvalue().splitlines() == [
        "predicting ...",
        "predicted 2,000 of 5,000 rows  100 rows/s  left 0:30",
        "predicted 3,000 of 5,000 rows  100 rows/s  left 0:20",
        "predicted 4,000 of 5,000 rows  100 rows/s  left 0:10",
        "predicted 5,000 of 5,000 rows  100 rows/s  left 0:00",
    ]
