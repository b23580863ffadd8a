"""A run under signals while a pool of actors makes the rows that it keeps."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from rayft.spec.overrides import dump_spec
from tests.faults.test_signals import finish, start
from tests.laws.harness import make_spec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

VIEWS = 40


def write_spec(folder: Path) -> Path:
    function = "tests.laws.harness:pictures"
    source = {"kind": "python", "function": function, "args": {"num_rows": 600}}
    spec = make_spec(
        data={**make_spec().model_dump(mode="json")["data"], "train": source},
        storage_path=str(folder),
        phases=[{"name": "probe", "train": ["heads"], "for": "1 epochs", "lr": 0.01}],
        global_batch_size=64,
        cache={"mode": "require", "views": VIEWS},
        scaling={"num_workers": 2, "resources_per_worker": {"CPU": 1}},
    )
    file = folder / "spec.yaml"
    file.write_text(dump_spec(spec))
    return file


def finished_shards(folder: Path) -> dict[str, tuple[int, int]]:
    """Return when each shard with a record, or in a whole store, was written, and its size."""
    found = {}
    for shard in (folder / ".stores/activations").glob("*/shard-*.arrow"):
        records = (shard.with_name(f"{shard.name}.json"), shard.with_name("manifest.json"))
        if any(record.exists() for record in records):
            key = shard.parent.name.strip(".").removesuffix(".part")
            state = shard.stat()
            found[f"{key}/{shard.name}"] = (state.st_mtime_ns, state.st_size)
    return found


def wait_for_shards(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"ended early: {process.communicate()}")
        if len(finished_shards(folder)) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("no shards within 90 s")


def test_sigterm_ends_the_filling_and_what_is_finished_is_not_made_again(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    process = start(spec)
    wait_for_shards(tmp_path, 4, process)
    children = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    _, errors = process.communicate(timeout=60)
    took = time.monotonic() - sent
    left = finished_shards(tmp_path)

    assert process.returncode == 143, errors
    assert took < 30
    assert "Traceback" not in errors
    assert "stopped as asked, before the first step of this attempt" in errors
    assert 4 <= len(left) < VIEWS
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, [one.cmdline() for one in alive if one.is_running()]
    result = finish(spec)
    assert result["status"] == "finished"
    assert result["phases"][0]["kept"] is True
    made = finished_shards(tmp_path)
    assert len(made) == VIEWS + 1
    assert {name: made[name] for name in left} == left
