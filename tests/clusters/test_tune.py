"""A sweep on a cluster that loses a node: its trials go on elsewhere from their checkpoints."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.clusters.cluster import RAYFT, ROOT, started_cluster
from tests.faults.test_tune import wait_for, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_a_lost_node_costs_no_trial(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path)
    with started_cluster("--num-cpus=0") as cluster:
        cluster.add_node("--num-cpus=1")
        cluster.add_node("--num-cpus=1")
        process = subprocess.Popen(
            [RAYFT, "tune", str(sweep), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**cluster.environment, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
        )
        wait_for(tmp_path, "reported", 4, process)

        cluster.kill_node(0)
        out, errors = process.communicate(timeout=200)

    assert process.returncode == 0, errors
    result = json.loads(out.splitlines()[-1])
    assert [trial["status"] for trial in result["trials"]] == ["finished"] * 6
    assert [trial["reason"] for trial in result["trials"]] == [""] * 6
