"""The command line under signals: it saves, says so, exits as documented, and goes on exactly."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from rayft.spec.overrides import dump_spec
from tests.laws.harness import make_spec

# Three whole runs stand in one test; each step has a limit of its own.
pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
RAYFT = str(Path(sys.executable).parent / "rayft")


@pytest.fixture
def left_behind() -> Iterator[list[psutil.Process]]:
    """Take processes that a killed driver leaves, and end them: Ray's own need up to a minute."""
    processes: list[psutil.Process] = []
    yield processes
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def write_spec(folder: Path, num_workers: int) -> Path:
    data = {
        **make_spec().model_dump(mode="json")["data"],
        "train": {"kind": "python", "function": "tests.laws.harness:pictures"},
    }
    phase = {"name": "long", "train": ["heads", "last 2"], "for": "40 epochs", "lr": 0.001}
    scaling = {"num_workers": num_workers}
    if num_workers:
        scaling["resources_per_worker"] = {"CPU": 1}
    spec = make_spec(
        data=data,
        storage_path=str(folder),
        phases=[phase],
        scaling=scaling,
        checkpoint={"interval_s": 0.05},
    )
    file = folder / "spec.yaml"
    file.write_text(dump_spec(spec))
    return file


def start(spec: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [RAYFT, "train", str(spec), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def num_steps(folder: Path) -> int:
    """Return how often the run has told of its progress."""
    journal = folder / "run" / "journal.jsonl"
    return journal.read_text().count('"progress"') if journal.is_file() else 0


def wait_for_steps(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"ended early: {process.communicate()}")
        if num_steps(folder) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no progress within 90 s")


def finish(spec: Path) -> dict[str, Any]:
    process = start(spec)
    out, errors = process.communicate(timeout=110)
    assert process.returncode == 0, errors
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    newest = sorted((folder / "run" / "checkpoints").glob("step-*"))[-1]
    return load_file(newest / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Return the weights of a run on two workers that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    finish(write_spec(folder, 2))
    return weights_of(folder)


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    assert not [name for name in found if not np.array_equal(found[name], expected[name])]


def test_a_run_that_is_stopped_and_then_killed_goes_on_to_the_same_bits(
    whole: dict[str, np.ndarray], tmp_path: Path, left_behind: list[psutil.Process]
) -> None:
    spec = write_spec(tmp_path, 2)
    process = start(spec)
    wait_for_steps(tmp_path, 8, process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children

    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    out, errors = process.communicate(timeout=60)

    assert process.returncode == 143, errors
    assert time.monotonic() - sent < 30
    assert "Traceback" not in errors
    assert "run the same command again to go on" in errors
    assert json.loads(out.splitlines()[-1])["status"] == "stopped"
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, [p.cmdline() for p in alive if p.is_running()]

    done = num_steps(tmp_path)
    process = start(spec)
    wait_for_steps(tmp_path, done + 4, process)
    left_behind += psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=10)

    assert finish(spec)["status"] == "finished"
    assert_equal(weights_of(tmp_path), whole)


def test_interrupt_saves_and_exits_with_130_in_the_calling_process_too(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, 0)
    process = start(spec)
    wait_for_steps(tmp_path, 8, process)

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert finish(spec)["status"] == "finished"
