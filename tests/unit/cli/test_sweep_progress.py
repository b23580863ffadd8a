"""What a sweep says while it goes on, and what it leaves unsaid."""

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rayft.cli.main import app
from rayft.cli.sweep_progress import SweepProgress

ENDING = {
    "trial": 0,
    "status": "finished",
    "metrics": {"validation/accuracy": 0.5},
    "reason": "",
    "seconds": 3.0,
}


def said(*events: dict[str, Any]) -> str:
    file = io.StringIO()
    progress = SweepProgress(Console(file=file, width=120))
    for event in events:
        progress.on_event(event)
    return file.getvalue()


def test_what_an_earlier_command_came_to_is_counted_and_not_told_again() -> None:
    points = {"kind": "asked", "points": [{"trial": 0}, {"trial": 1}], "problems": {}}
    old = {"kind": "ended", "unit": "a", "endings": [ENDING], "time": time.time() - 60}
    new = {"kind": "ended", "unit": "b", "endings": [{**ENDING, "trial": 1}]}

    text = said(points, old, new)

    assert "trial 0" not in text
    assert "trial 1 finished" in text
    assert "(2 of 2 trials)" in text


@pytest.mark.parametrize("work", ["fused", "stage"])
def test_what_fails_together_is_not_over(work: str) -> None:
    points = {"kind": "asked", "points": [{"trial": n} for n in range(3)], "problems": {}}
    handed = {"kind": "handed", "unit": f"{work}-0000", "trials": [0, 1, 2], "work": work}
    failed = {**ENDING, "status": "failed", "metrics": {}, "reason": "out of memory"}
    failed["together"] = work == "fused"
    endings = [ENDING, {**failed, "trial": 1}, {**failed, "trial": 2}]

    text = said(points, handed, {"kind": "ended", "unit": f"{work}-0000", "endings": endings})

    assert "(1 of 3 trials)" in text
    assert f"{work}-0000 failed  out of memory  alone from now on: trials 1, 2" in text
    assert "trial 1 failed" not in text


@pytest.mark.parametrize(
    "options", [("--plan", "--status"), ("--status", "--stop"), ("--plan", "--stop")]
)
def test_options_that_exclude_each_other_are_a_wrong_request(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    found = CliRunner().invoke(app, ["tune", str(tmp_path / "sweep.yaml"), *options, "--json"])

    assert found.exit_code == 2
    result = json.loads(found.stdout.splitlines()[-1])
    assert result["status"] == "refused"
    assert "exclude each other" in result["problems"][0]["what"]
