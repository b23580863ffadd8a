"""Predicting on real actors and as a real process: same bits, also where something is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayft.data.predict_parts import MANIFEST
from rayft.errors import ClusterError, RayftError
from rayft.plan.facts import NodeFacts
from rayft.storage.location import Location
from tests.unit.conftest import make_image_file
from tests.unit.runtime.predicting import (
    CLASSES,
    contents,
    make_checkpoint,
    make_photos,
    predictions,
    probabilities,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
RAYFT = str(Path(sys.executable).parent / "rayft")
NUM_ROWS, NUM_BAD = 2000, 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Location:
    return make_checkpoint(Location(str(tmp_path_factory.mktemp("run"))))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows for eight parts."""
    pictures = [make_image_file(seed, size=(80, 60), kind="JPEG") for seed in range(50)]
    images = [b"no image" if n % 1000 == 7 else pictures[n % 50] for n in range(NUM_ROWS)]
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    rows = pa.table({"id": range(NUM_ROWS), "image": images})
    pq.write_table(rows, file, row_group_size=128)
    return file


@pytest.fixture(scope="module")
def whole(run: Location, table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the parts that this process makes when nothing disturbs it."""
    from rayft.runtime.predict import predict
    from rayft.runtime.predict_job import PredictOptions

    out = tmp_path_factory.mktemp("whole")
    found = predict(run.url, table, out, options=PredictOptions(workers=0))
    assert found["errors"] == NUM_BAD
    assert [row["id"] for row in predictions(out)] == list(range(NUM_ROWS))
    return contents(out)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("workers", ["auto", 2, 4])
def test_no_number_of_actors_changes_a_bit(
    run: Location, table: Path, whole: dict[str, bytes], tmp_path: Path, workers: Any
) -> None:
    from rayft.runtime.predict import predict
    from rayft.runtime.predict_job import PredictOptions

    found = predict(run.url, table, tmp_path, options=PredictOptions(workers=workers))

    assert contents(tmp_path) == whole
    assert len(whole) == 8
    assert (found["rows"], found["errors"]) == (NUM_ROWS, NUM_BAD)


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_actor_is_replaced_and_no_bit_is_lost(
    run: Location, table: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    from rayft.runtime.predict import predict
    from rayft.runtime.predict_job import PredictOptions

    killed: list[int] = []

    def kill() -> None:
        while not list(tmp_path.glob("*.parquet")):
            time.sleep(0.01)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "MapWorker" in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(process.pid)
                    return

    killer = threading.Thread(target=kill)
    killer.start()
    predict(run.url, table, tmp_path, options=PredictOptions(workers=2))
    killer.join()

    assert killed
    assert contents(tmp_path) == whole


@pytest.mark.usefixtures("ray_cluster")
def test_a_damaged_file_fails_once_with_its_reason_and_keeps_what_is_done(
    run: Location, tmp_path: Path
) -> None:
    from rayft.runtime.predict import predict
    from rayft.runtime.predict_job import PredictOptions

    images = [make_image_file(seed) for seed in range(600)]
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": images}), file, row_group_size=300, compression="none")
    content = bytearray(file.read_bytes())
    content[len(content) * 3 // 4 : -20_000] = b"\xff" * (len(content) // 4 - 20_000)
    file.write_bytes(bytes(content))

    with pytest.raises(RayftError, match="it cannot be read") as caught:
        predict(run.url, file, tmp_path / "out", options=PredictOptions(workers=2))

    assert len(caught.value.problems) == 1
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out" / MANIFEST).exists()


@pytest.mark.usefixtures("ray_cluster")
def test_a_gpu_that_an_autoscaler_can_add_is_asked_for_and_given_up_in_the_end(
    run: Location, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rayft.runtime.growth import Growth
    from rayft.runtime.predict import predict

    resources = {"CPU": 8.0, "GPU": 1.0}
    kind = NodeFacts(name="gpu", resources=resources, memory_bytes=0, count=2, present=False)
    growth = Growth(kinds=(kind,), most=2)
    monkeypatch.setattr("rayft.runtime.growth.growth_of", lambda nodes: growth)
    monkeypatch.setattr("rayft.runtime.predict_run._WAIT_S", 1.0)

    with pytest.raises(ClusterError, match="no node with 8 CPU, 1 GPU came within 1 s"):
        predict(run.url, table, tmp_path)


def test_predictions_are_those_of_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rayft.engine import evaluation
    from rayft.runtime.evaluate import evaluate
    from rayft.runtime.predict import predict
    from rayft.runtime.predict_job import PredictOptions

    photos = Location(str(tmp_path / "photos"))
    for label in CLASSES:
        make_photos(photos / label, 13)
    folder = {"kind": "folder", "path": photos.url}
    run = make_checkpoint(
        Location(str(tmp_path / "run")),
        average=True,
        # Stored larger than the model sees, so that the centre is cut out.
        augment=[{"kind": "random_resized_crop"}],
        data={
            "train": folder,
            "test": folder,
            "validation": None,
            "image_size": 32,
            "resize": "pad",
        },
        storage_path=str(tmp_path),
    )
    seen: dict[str, Any] = {}
    report = evaluation.classification_report

    def remember(**arguments: Any) -> Any:
        seen.update(arguments)
        return report(**arguments)

    monkeypatch.setattr(evaluation, "classification_report", remember)

    figures = evaluate(run.url, split="test")["metrics"]
    predict(run.url, photos.url, tmp_path / "out", options=PredictOptions(workers=0))

    order = np.argsort(seen["row_ids"])
    scores, targets = seen["scores"][order].astype(np.float64), seen["targets"][order]
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(tmp_path / "out"), expected, atol=1e-5)
    labels = [row["label"] for row in predictions(tmp_path / "out")]
    assert labels == [CLASSES[place] for place in expected.argmax(axis=1)]
    assert isinstance(figures, dict)
    hits = np.mean(
        [label == CLASSES[target] for label, target in zip(labels, targets, strict=True)]
    )
    assert figures["test/accuracy"] == pytest.approx(hits)


@pytest.fixture
def left_behind() -> Iterator[list[psutil.Process]]:
    """Take processes that a killed driver leaves, and end them: Ray's own need up to a minute."""
    processes: list[psutil.Process] = []
    yield processes
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def start(run: Location, table: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    command = [RAYFT, "predict", run.url, str(table), "--output", str(out), "--json"]
    return subprocess.Popen(
        [*command, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while len(list(out.glob("*.parquet"))) < count:
        if process.poll() is not None:
            raise AssertionError(f"ended early: {process.communicate()}")
        if time.monotonic() > deadline:
            raise AssertionError("no part within 90 s")
        time.sleep(0.005)


def finish(run: Location, table: Path, out: Path, workers: int) -> dict[str, Any]:
    process = start(run, table, out, workers)
    stdout, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    result: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("how", [(signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_a_prediction_that_is_stopped_and_then_killed_goes_on_to_the_same_bits(
    run: Location,
    table: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    left_behind: list[psutil.Process],
    how: tuple[signal.Signals, int],
) -> None:
    number, workers = how
    process = start(run, table, tmp_path, workers)
    wait_for_parts(tmp_path, 2, process)
    children = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(number)
    sent = time.monotonic()
    stdout, errors = process.communicate(timeout=60)

    assert process.returncode == 128 + number, errors
    assert time.monotonic() - sent < 30
    assert "Traceback" not in errors
    assert "of 2,000 rows are predicted" in errors
    assert "run the same command again to go on" in errors
    assert json.loads(stdout.splitlines()[-1])["status"] == "stopped"
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive

    saved = len(contents(tmp_path))
    process = start(run, table, tmp_path, workers)
    wait_for_parts(tmp_path, saved + 2, process)
    left_behind += psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=10)

    kept = contents(tmp_path)
    assert not (tmp_path / MANIFEST).exists()
    assert kept.items() <= whole.items()
    found = finish(run, table, tmp_path, workers)
    assert contents(tmp_path) == whole
    assert found["status"] == "predicted"
    assert found["errors"] == NUM_BAD
    assert found["rows_predicted"] < NUM_ROWS
    assert finish(run, table, tmp_path, 0)["status"] == "already finished"
