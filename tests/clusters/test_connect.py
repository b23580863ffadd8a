"""Which cluster a driver connects to, and what it says where there is none."""

import socket
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from tests.clusters.cluster import (
    RAYFT,
    ROOT,
    quiet_environment,
    result_of,
    run_python,
    started_cluster,
)

pytestmark = pytest.mark.ray

CONNECT = textwrap.dedent(
    """
    import json
    import ray
    from rayft.runtime.launch import start_ray

    connected = start_ray()
    again = start_ray()
    found = {"connected": connected, "again": again, "cpus": ray.cluster_resources().get("CPU")}
    ray.shutdown()
    print(json.dumps(found))
    """
)


def test_a_cluster_is_joined_where_it_is_named_and_never_because_it_is_there() -> None:
    with started_cluster("--num-cpus=17") as cluster:
        named = cluster.python(CONNECT)
        # Ray notes in this folder which cluster was started last on this machine.
        beside = run_python(CONNECT, quiet_environment(RAY_TMPDIR=str(cluster.folder)))

    assert named == {"connected": True, "again": False, "cpus": 17}
    assert (beside["connected"], beside["again"]) == (True, False)
    assert beside["cpus"] < 17


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_cluster_that_does_not_answer_is_refused_at_once(tmp_path: Path) -> None:
    address = f"127.0.0.1:{closed_port()}"
    started = time.monotonic()

    found = subprocess.run(
        [RAYFT, "plan", "jobs/quickstart.yaml", f"storage_path={tmp_path}", "--json"],
        env=quiet_environment(RAY_ADDRESS=address),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 2, found.stderr
    (problem,) = result_of(found)["problems"]
    assert problem["where"] == "RAY_ADDRESS"
    assert f"no Ray cluster answers at {address}" in problem["what"]
    assert time.monotonic() - started < 60


def test_a_run_in_the_calling_process_asks_no_cluster(tmp_path: Path) -> None:
    words = ["scaling.num_workers=0", f"storage_path={tmp_path}", "--json"]

    found = subprocess.run(
        [RAYFT, "plan", "jobs/quickstart.yaml", *words],
        env=quiet_environment(RAY_ADDRESS=f"127.0.0.1:{closed_port()}"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 0, found.stderr
