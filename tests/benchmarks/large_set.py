"""A large folder of JPEGs through prepare, two epochs and a resume: peak memory and disk.

Rows, checkpoints and results lie in a local S3 server, whose own memory and disk do not count; the
cache of the machine is smaller than the rows, so the order is windowed.

python -m tests.benchmarks.large_set FOLDER [--rows 100000] [--budget "600 MB"]

Run it again with a tenth of the rows: what is bounded does not grow with them.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import psutil

from rayft.spec.size import parse_size
from rayft.storage.location import Location
from tests.benchmarks.make_jpegs import write_jpegs
from tests.benchmarks.side_by_side import RAYFT

STOP_AFTER = 0.6
"""Share of all steps after which the run is told to stop, and is resumed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--budget", default="600 MB")
    chosen = parser.parse_args()
    if not chosen.folder.is_dir():
        write_jpegs(chosen.folder, chosen.rows)
    with (
        _s3_server() as bucket,
        tempfile.TemporaryDirectory() as cache,
        patch.dict(os.environ, {"RAYFT_CACHE_DIR": cache}),
    ):
        _measure(chosen.folder, bucket, Path(cache), budget=chosen.budget)


def _measure(folder: Path, bucket: str, cache: Path, *, budget: str) -> None:
    with tempfile.TemporaryDirectory() as here:
        file = Path(here, "large.yaml")
        file.write_text(json.dumps(_spec(folder, bucket, budget)))
        watch = Watch(cache)
        plan = _step(watch, "plan", file)["plan"]
        _step(watch, "prepare", file)
        total = sum(phase["steps"] for phase in plan["phases"])
        _step(watch, "train", file, stop_after=int(STOP_AFTER * total))
        result = _step(watch, "resume", file)
    stored = sum(entry.size for entry in Location(f"{bucket}/runs/.stores").files())
    print(f"order {plan['order']['kind']}: {plan['order']['reason']}")
    print(f"rows {sum(plan['data']['rows'].values()):,}; store {stored / 1e6:,.0f} MB")
    print(f"metrics {result['metrics']}")
    for stage in watch.stages:
        print(
            f"{stage.name:<8} {stage.seconds:7.0f} s; peak memory of all processes "
            f"{stage.memory / 2**20:,.0f} MiB; peak of the cache {stage.disk / 1e6:,.0f} MB "
            f"({stage.disk / parse_size(budget):.3f} of its budget)"
        )


def _spec(folder: Path, bucket: str, budget: str) -> dict[str, Any]:
    return {
        "name": "large",
        "storage_path": f"{bucket}/runs",
        "data": {
            "train": {"kind": "folder", "path": str(folder)},
            "validation": {"fraction": 0.02, "stratify": False},
            # The network sees little, so that preparing and decoding, not it, take the time.
            "image_size": 64,
            "stored_size": 256,
            "stored_as": "encoded",
            "local_cache": {"budget": budget},
        },
        "augment": [{"kind": "random_resized_crop"}, {"kind": "horizontal_flip"}],
        "model": {
            "backbone": {"kind": "timm", "name": "test_efficientnet", "weights": "none"},
            "heads": {"label": {"kind": "classification"}},
        },
        "phases": [{"name": "probe", "train": ["heads"], "for": "2 epochs", "lr": 1e-2}],
        "global_batch_size": 256,
        "precision": "fp32",
        "scaling": {"num_workers": 2, "resources_per_worker": {"CPU": 1}},
    }


@dataclass
class Stage:
    """The largest figures seen while one command ran."""

    name: str
    seconds: float = 0.0
    memory: int = 0
    """Bytes that belong to the processes alone, without pages of mapped files."""
    disk: int = 0


@dataclass
class Watch:
    """Looks at a command's processes and at the cache, twice a second."""

    cache: Path
    stages: list[Stage] = field(default_factory=list)

    @contextmanager
    def over(self, name: str, pid: int) -> Iterator[None]:
        stage, done = Stage(name), threading.Event()
        self.stages.append(stage)
        thread = threading.Thread(target=self._look, args=(stage, pid, done))
        started = time.monotonic()
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            stage.seconds = time.monotonic() - started

    def _look(self, stage: Stage, pid: int, done: threading.Event) -> None:
        while not done.wait(0.5):
            stage.memory = max(stage.memory, _memory(pid))
            stage.disk = max(stage.disk, _disk(self.cache))


def _memory(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        driver = psutil.Process(pid)
        for process in (driver, *driver.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_full_info().uss
    return total


def _disk(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            # What is taken: a file that is being fetched is declared larger than it is yet.
            total += file.stat().st_blocks * 512
    return total


def _step(watch: Watch, name: str, file: Path, *, stop_after: int | None = None) -> dict[str, Any]:
    command = "train" if name == "resume" else name
    process = subprocess.Popen(
        [RAYFT, command, str(file), "--json"], stdout=subprocess.PIPE, text=True
    )
    with watch.over(name, process.pid):
        if stop_after is not None:
            _stop_at(process, file, stop_after)
        output, _ = process.communicate()
    expected = 0 if stop_after is None else 128 + signal.SIGTERM
    if process.returncode != expected:
        sys.exit(f"rayft {command} ended with {process.returncode}: {output}")
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def _stop_at(process: "subprocess.Popen[str]", file: Path, steps: int) -> None:
    run = Location(json.loads(file.read_text())["storage_path"]) / "large/journal"
    while process.poll() is None:
        for piece in run.files()[-3:]:
            for line in (run / piece.path).read_bytes().splitlines():
                if json.loads(line).get("steps_done", 0) >= steps:
                    process.send_signal(signal.SIGTERM)
                    return
        time.sleep(1)


@contextmanager
def _s3_server() -> Iterator[str]:
    """Run a server as a process of its own, so that its memory is not counted."""
    port = "5555"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", port],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with patch.dict(os.environ, variables):
            _wait_for(int(port))
            client = boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL"])
            client.create_bucket(Bucket="large-set")
            yield "s3://large-set"
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    sys.exit("the S3 server did not start")


if __name__ == "__main__":
    main()
