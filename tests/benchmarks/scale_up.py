"""Seconds from `rayft train` to the first step where the nodes must come first, and where they are.

python -m tests.benchmarks.scale_up [--rounds 5]

Two clusters with Ray's autoscaler stand side by side, whose nodes are processes of this machine:
what is measured is what the autoscaler, Ray and rayft take, without the minutes of a real machine.
"""

import argparse
import json
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

from tests.benchmarks.side_by_side import RAYFT, cifar_spec, measure, ratio, report
from tests.clusters.cluster import HEAD_TYPE, Cluster, started_cluster

WORKERS, CPUS = 2, 2


def node_types(*, there: int) -> dict[str, dict[str, object]]:
    """Return a head without room for a worker, and nodes for one each, some always there."""
    return {
        HEAD_TYPE: {"resources": {"CPU": 1}, "max_workers": 0},
        "worker": {"resources": {"CPU": CPUS}, "min_workers": there, "max_workers": WORKERS},
    }


def wait_for_nodes(cluster: Cluster, wanted: int) -> None:
    """Wait until the cluster has the head and `wanted` other nodes."""
    deadline = time.monotonic() + 120
    while cluster.num_nodes() != 1 + wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the cluster does not come to {wanted} nodes beside the head")
        time.sleep(0.5)


def to_first_step(cluster: Cluster, storage: Path, name: str) -> float:
    """Return the seconds from the command to the journal's first report, after one step."""
    phases = [{"name": "all", "train": ["all"], "for": "20 steps", "lr": 1e-3}]
    scaling = {"num_workers": WORKERS, "resources_per_worker": {"CPU": CPUS}}
    spec = cifar_spec(str(storage), name=name, phases=phases, scaling=scaling)
    spec["data"]["train"]["path"] = spec["data"]["train"]["path"].replace("[01]", "0")
    # An epoch of less than 20 steps reports every step.
    spec["data"]["test"] = {"fraction": 0.9}
    file = storage / f"{name}.yaml"
    file.write_text(json.dumps(spec))
    journal = storage / name / "journal.jsonl"
    started = time.perf_counter()
    with (storage / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [RAYFT, "train", str(file)], stdout=log, stderr=log, env=cluster.environment
        )
    try:
        while not (journal.is_file() and '"progress"' in journal.read_text()):
            if process.poll() is not None:
                raise RuntimeError((storage / f"{name}.log").read_text())
            time.sleep(0.01)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    numbers = count()
    one = ("--num-cpus=1",)
    v2 = {"RAY_enable_autoscaler_v2": "1"}
    with (
        tempfile.TemporaryDirectory() as folder,
        started_cluster(*one, autoscaling=node_types(there=0), **v2) as growing,
        started_cluster(*one, autoscaling=node_types(there=WORKERS), **v2) as standing,
    ):

        def seconds(cluster: Cluster, nodes: int) -> float:
            wait_for_nodes(cluster, nodes)
            return to_first_step(cluster, Path(folder), f"start-{next(numbers)}")

        seconds(standing, WORKERS)  # builds the row store and warms the page cache
        found = measure(
            {
                "nodes that must come": lambda: seconds(growing, 0),
                "nodes that are there": lambda: seconds(standing, WORKERS),
            },
            rounds=rounds,
        )
    come, there = found.values()
    figures = [come, there, ratio("nodes that must come, over nodes that are there", come, there)]
    report(f"Command to first step on {WORKERS} nodes", figures, unit="seconds")


if __name__ == "__main__":
    main()
