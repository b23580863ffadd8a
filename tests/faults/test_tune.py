"""A sweep that is killed, or asked to stop, goes on with the same command to the same result."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from safetensors.numpy import load_file

from tests.laws.harness import make_spec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
RAYFT = str(Path(sys.executable).parent / "rayft")
LAST = {"name": "upper", "train": ["heads", "last 2"], "lr": 0.001}
HEADS = {"name": "probe", "train": ["heads"], "for": "2 epochs", "lr": 0.01}


def write_sweep(folder: Path, *, epochs: int = 6) -> Path:
    folder.mkdir(exist_ok=True)
    run = make_spec(
        data={
            **make_spec().model_dump(mode="json")["data"],
            "train": {"kind": "python", "function": "tests.laws.harness:pictures"},
        },
        phases=[HEADS, {**LAST, "for": f"{epochs} epochs"}],
        scaling={"num_workers": 1, "resources_per_worker": {"CPU": 1}},
        checkpoint={"interval_s": 0.05},
    )
    sweep = {
        "name": "sweep",
        "storage_path": str(folder),
        "run": run.model_dump(mode="json", by_alias=True),
        "space": {"phases.1.lr": "choice([0.001, 0.003, 0.01])", "seed": "choice([3, 4])"},
        "search": {"kind": "grid"},
    }
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return file


def start(sweep: Path, *options: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [RAYFT, "tune", str(sweep), "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def finish(process: subprocess.Popen[str], *, code: int = 0) -> dict[str, Any]:
    out, errors = process.communicate(timeout=140)
    assert process.returncode == code, errors
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def wait_for(folder: Path, kind: str, count: int, process: subprocess.Popen[str]) -> None:
    journal = folder / "sweep" / "sweep.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"ended early: {process.communicate()}")
        if journal.is_file() and journal.read_text().count(f'"kind": "{kind}"') >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} events {kind} within 120 s")


def weights_of(result: dict[str, Any]) -> dict[int, dict[str, np.ndarray]]:
    return {
        trial["trial"]: load_file(Path(trial["checkpoint"], "model.safetensors"))
        for trial in result["trials"]
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the result of a sweep that nothing disturbed."""
    return finish(start(write_sweep(tmp_path_factory.mktemp("whole"))))


def assert_same(found: dict[str, Any], whole: dict[str, Any]) -> None:
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 6
    expected = weights_of(whole)
    for trial, tensors in weights_of(found).items():
        for name, value in tensors.items():
            assert np.array_equal(value, expected[trial][name]), (trial, name)
    points = {json.dumps(trial["values"], sort_keys=True) for trial in found["trials"]}
    assert len(points) == 6


def end_tree(process: subprocess.Popen[str]) -> None:
    """Kill a driver alone, then wait for what it leaves to end; help where that takes long."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(children, timeout=20)
    for child in left:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def test_a_sweep_that_is_stopped_and_then_killed_goes_on_to_the_same_trials(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    sweep = write_sweep(tmp_path)
    process = start(sweep)
    wait_for(tmp_path, "reported", 2, process)
    process.send_signal(signal.SIGTERM)
    assert finish(process, code=128 + signal.SIGTERM)["status"] == "stopped"

    process = start(sweep)
    # Two stages and the first trials are over, others are at work.
    wait_for(tmp_path, "ended", 3, process)
    end_tree(process)
    status = finish(start(sweep, "--status"))
    result = finish(start(sweep))

    assert status["status"] == "stopped"
    assert_same(result, whole)


def test_stop_from_another_process_has_trials_save_and_end(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, epochs=2000)
    process = start(sweep)
    wait_for(tmp_path, "reported", 3, process)

    asked = finish(start(sweep, "--stop"))

    assert asked["status"] == "stopping"
    assert finish(process, code=1)["status"] == "stopped"
    status = finish(start(sweep, "--status"))
    assert status["status"] == "stopped"
    assert max(trial["epochs"] for trial in status["trials"]) >= 1
