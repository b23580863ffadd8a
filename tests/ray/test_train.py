"""Whole runs on real Ray Train workers."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from rayft.errors import CheckpointError, TrainingError
from tests.laws.harness import make_spec

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

PYTHON_ROWS = {"kind": "python", "function": "tests.laws.harness:pictures"}


def spec_for(folder: Path, num_workers: int, **changes: Any) -> Any:
    data = {**make_spec().model_dump(mode="json")["data"], "train": PYTHON_ROWS}
    return make_spec(
        **{
            "data": data,
            "storage_path": str(folder),
            "scaling": {"num_workers": num_workers, "resources_per_worker": {"CPU": 1}},
            **changes,
        }
    )


def weights_of(result: dict[str, Any]) -> dict[str, np.ndarray]:
    newest = sorted(Path(result["run"], "checkpoints").glob("step-*"))[-1]
    return load_file(newest / "model.safetensors")


def events_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(result["run"], "journal.jsonl").open()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from rayft.runtime.train import train

    return train(spec_for(tmp_path_factory.mktemp("whole"), 2, checkpoint={"interval_s": 0}))


def test_a_run_on_two_workers_gives_a_result_and_a_checkpoint(whole: dict[str, Any]) -> None:
    assert whole["status"] == "finished"
    assert Path(whole["checkpoint"], "model.safetensors").is_file()
    assert {"train/loss", "validation/accuracy", "test/accuracy"} <= whole["metrics"].keys()
    assert whole["throughput"]["rows_per_s"] > 0
    assert 0 <= whole["throughput"]["data_wait_fraction"] <= 1
    assert [phase["name"] for phase in whole["phases"]] == ["probe", "finetune"]


@pytest.mark.parametrize("num_workers", [0, 4])
def test_other_numbers_of_workers_give_the_same_weights(
    whole: dict[str, Any], tmp_path: Path, num_workers: int
) -> None:
    from rayft.runtime.train import train

    other = train(spec_for(tmp_path, num_workers))

    for name, value in weights_of(whole).items():
        np.testing.assert_allclose(weights_of(other)[name], value, atol=2e-5, err_msg=name)


def test_ray_data_ingest_gives_the_same_weights_to_the_bit(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    from rayft.runtime.train import train

    other = train(spec_for(tmp_path, 2, ingest="ray_data"))

    mine, theirs = weights_of(whole), weights_of(other)
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_a_finished_run_returns_its_result_at_once(whole: dict[str, Any]) -> None:
    from rayft.runtime.train import train

    started = time.monotonic()
    folder = Path(whole["run"]).parent
    again = train(spec_for(folder, 2, checkpoint={"interval_s": 0}))

    assert again["status"] == "already finished"
    assert again["metrics"] == whole["metrics"]
    assert time.monotonic() - started < 5


def test_another_spec_under_the_same_name_is_refused_with_the_differences(
    whole: dict[str, Any],
) -> None:
    from rayft.runtime.train import train

    folder = Path(whole["run"]).parent

    with pytest.raises(CheckpointError) as caught:
        train(spec_for(folder, 2, seed=4, global_batch_size=32))

    assert "seed: 3 -> 4" in str(caught.value)
    assert "global_batch_size: 16 -> 32" in str(caught.value)


def _kill_a_worker_after(folder: Path, checkpoint: str) -> threading.Thread:
    """Kill one train worker as soon as a checkpoint is there."""

    def watch() -> None:
        place = folder / "run" / "checkpoints" / checkpoint
        while not place.exists():
            time.sleep(0.01)
        me = psutil.Process()
        for process in me.children(recursive=True):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_killed_worker_is_restarted_and_no_bit_is_lost(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    from rayft.runtime.train import train

    killer = _kill_a_worker_after(tmp_path, "step-0000000003")

    result = train(spec_for(tmp_path, 2, checkpoint={"interval_s": 0}))
    killer.join()

    kinds = [event["kind"] for event in events_of(result)]
    assert "resumed" in kinds
    mine, theirs = weights_of(whole), weights_of(result)
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_a_run_that_cannot_go_on_fails_once_with_its_reason(tmp_path: Path) -> None:
    from rayft.runtime.train import train

    phases = [{"name": "wild", "train": ["all"], "for": "9 epochs", "lr": 1e30}]

    with pytest.raises(TrainingError) as caught:
        train(spec_for(tmp_path, 2, phases=phases, gradient_clip=None))

    assert "steps in a row is not finite" in str(caught.value)
    assert "phase wild, step" in str(caught.value)
    journal = (tmp_path / "run" / "journal.jsonl").read_text()
    assert journal.count('"failed"') == 1
    for checkpoint in (tmp_path / "run" / "checkpoints").glob("step-*"):
        weights = load_file(checkpoint / "model.safetensors")
        assert all(np.isfinite(value).all() for value in weights.values())


def test_a_second_run_of_the_same_name_is_kept_out(tmp_path: Path) -> None:
    from rayft.runtime.folder import RunFolder
    from rayft.runtime.train import train
    from rayft.storage.location import Location

    spec = spec_for(tmp_path, 0)

    with (
        RunFolder(Location(str(tmp_path)), spec.name).locked(),
        pytest.raises(CheckpointError, match=f"is being trained by process {os.getpid()}"),
    ):
        train(spec)
