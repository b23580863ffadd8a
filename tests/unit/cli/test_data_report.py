"""`rayft prepare --report` as people and scripts see it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayft.cli.command import Output
from rayft.cli.data_report import prepare_and_report
from rayft.errors import DataError
from rayft.runtime.data_report import ReportRequest
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from tests.unit.conftest import make_image_file

DATA: dict[str, object] = {
    "train": {"kind": "folder", "path": "photos"},
    "image_size": 32,
    "validation": {"fraction": 0.2},
}
SPEC: dict[str, object] = {
    "name": "look",
    "model": {
        "backbone": {"kind": "torchvision", "name": "resnet18", "weights": "none"},
        "heads": {"label": {"kind": "classification"}},
    },
    "phases": [{"name": "p", "train": ["all"], "for": "1 epochs", "lr": 0.1}],
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for place, (label, count) in enumerate((("bee", 12), ("cat", 12), ("dog", 1))):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for index in range(count):
            image = make_image_file(100 * place + index, size=(40, 40))
            (folder / f"{index:02d}.png").write_bytes(image)
    (tmp_path / "photos" / "bee" / "[copy].png").write_bytes(
        (tmp_path / "photos" / "bee" / "03.png").read_bytes()
    )
    (tmp_path / "photos" / "cat" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


def _report(base_dir: Path, *, folder: str = "out", as_json: bool = False, **data: object) -> None:
    spec = RunSpec.model_validate({**SPEC, "data": {**DATA, **data}})
    request = ReportRequest(
        spec=spec,
        folder=folder,
        base_dir=base_dir,
        store_root=Location(str(base_dir / "stores")),
    )
    words = ("run.yaml", "data.leave_out=old.csv", "seed=3")
    prepare_and_report(request, Output(as_json=as_json), use_ray=False, words=words)


def test_people_read_what_was_found_and_what_comes_next(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _report(photos)

    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert any(line.split() == ["26", "rows", "found"] for line in lines)
    assert any(line.split() == ["exact", "duplicates", "1"] for line in lines)
    assert "train cat/cut.png: it is no image in a known format" in printed
    assert "[copy].png" in printed
    assert "class dog: 1 row, of" in printed
    assert "the largest class has" in printed
    assert "warning: a run would be refused: " in printed
    assert "1 of 27 images cannot be read" in printed
    assert "list: out/leave_out.csv proposes to leave out 1 row\n" in printed
    assert lines[-1] == "next: rayft plan run.yaml seed=3 data.leave_out=out/leave_out.csv"
    assert (photos / "out" / "report.html").exists()


def test_scripts_read_the_counts_in_one_line(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _report(photos, as_json=True)

    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["status"] == "reported"
    assert found["rows"] == 26
    assert found["findings"]["exact_duplicates"] == 1
    assert found["findings"]["unreadable"] == 1
    assert found["files"]["json"] == str(photos / "out" / "report.json")
    assert found["proposed_to_leave_out"] == 1
    assert [refusal["where"] for refusal in found["refusals"]] == [str(photos / "photos")]


def test_what_a_run_would_refuse_of_its_splits_is_told(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "photos" / "cat" / "cut.png").unlink()

    _report(photos)

    assert (
        "a run would be refused: data.validation: classes without a row in validation: dog"
        in capsys.readouterr().out
    )


def test_an_image_that_is_no_image_does_not_stop_the_next_report(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _report(photos)
    _report(photos, as_json=True)

    assert json.loads(capsys.readouterr().out.splitlines()[-1])["built"] is False


def test_the_command_reports_and_leaves_out_what_the_list_names(photos: Path) -> None:
    """In a process of its own: the command line imports Ray, which these tests block."""
    (photos / "photos" / "cat" / "cut.png").unlink()
    spec = {**SPEC, "storage_path": "runs", "scaling": {"num_workers": 0}}
    spec["data"] = {"train": {"kind": "folder", "path": "photos"}, "image_size": 32}
    (photos / "run.yaml").write_text(json.dumps(spec))

    def call(*words: str) -> str:
        code = "from rayft.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "prepare", "run.yaml", *words],
            cwd=photos,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    reported, prepared = call("--report", "out"), call("data.leave_out=out/leave_out.csv")

    assert "next: rayft plan run.yaml data.leave_out=out/leave_out.csv\n" in reported
    assert "already prepared: 25 train rows, 3 classes" in prepared
    assert "0 unreadable, 1 left out\n" in prepared


def test_a_folder_that_cannot_be_written_is_refused_before_rows_are_read(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "file").write_text("")
    monkeypatch.setattr("rayft.runtime.data_report.build_stores", pytest.fail)

    with pytest.raises(DataError, match=r"--report: .*file/out cannot be written"):
        _report(photos, folder="file/out")


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_are_reported_with_their_sheets(
    photos: Path, channels: int
) -> None:
    _report(photos, channels=channels, bad_rows={"limit": 0.5})

    report = json.loads((photos / "out" / "report.json").read_text())
    assert {len(each["colour"]) for each in report["figures"]} == {channels}
    assert list((photos / "out").rglob("*.png"))
