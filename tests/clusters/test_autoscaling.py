"""Clusters that grow: what they can reach is known, refused beyond, waited for, and given back."""

import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.cluster import (
    FACTS,
    HEAD_TYPE,
    RAYFT,
    ROOT,
    Cluster,
    result_of,
    started_cluster,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TYPES = {
    HEAD_TYPE: {"resources": {"CPU": 1}, "max_workers": 0},
    "pair": {"resources": {"CPU": 2}, "max_workers": 2},
}
SCALING = "{num_workers: 2, resources_per_worker: {CPU: 2}, wait_s: 300}"
# What KubeRay's autoscaler, the older and the newer one, leaves on a cluster that has no monitor
# beside its head: a report. The last one stays.
REPORTS = textwrap.dedent(
    """
    import json, sys
    import ray
    from ray.core.generated.autoscaler_pb2 import AutoscalingState
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put
    from rayft.runtime.facts import cluster_facts
    from rayft.storage.location import Location

    ray.init(log_to_driver=False, logging_level="ERROR")
    gcs = ray._raylet.GcsClient(ray.get_runtime_context().gcs_address)
    found = {"none": cluster_facts(Location(sys.argv[1])).max_cpus}
    report = {"autoscaler_report": {"active_nodes": {"headgroup": 1}}}
    _internal_kv_put(b"__autoscaling_status", json.dumps(report).encode())
    found["older"] = cluster_facts(Location(sys.argv[1])).max_cpus
    _internal_kv_del(b"__autoscaling_status")
    gcs.report_autoscaling_state(AutoscalingState(autoscaler_state_version=1).SerializeToString())
    found["newer"] = cluster_facts(Location(sys.argv[1])).max_cpus
    print(json.dumps(found))
    """
)


def command(word: str, storage: Path, scaling: str = SCALING) -> list[str]:
    """Return a command for a small run on workers of 2 CPUs, of which the head holds none."""
    return [
        *(RAYFT, word, "jobs/quickstart.yaml", f"storage_path={storage}", "precision=fp32"),
        "data.train={kind: python, function: 'tests.laws.harness:pictures'}",
        *("model.backbone.name=test_efficientnet", "model.backbone.weights=none"),
        *("data.image_size=32", "phases=[{name: probe, train: [heads], for: 2 epochs, lr: 1e-2}]"),
        *("global_batch_size=16", f"scaling={scaling}", "--json"),
    ]


def problems_of(found: subprocess.CompletedProcess[str]) -> str:
    assert found.returncode == 2, found.stderr
    return " ".join(problem["what"] for problem in result_of(found)["problems"])


@pytest.fixture(scope="module")
def growing() -> Iterator[Cluster]:
    with started_cluster(
        "--num-cpus=1", autoscaling=TYPES, RAY_enable_autoscaler_v2="1"
    ) as cluster:
        yield cluster


def test_a_plan_knows_what_the_cluster_can_reach_and_starts_nothing(
    growing: Cluster, tmp_path: Path
) -> None:
    found = growing.run(*command("plan", tmp_path))

    assert found.returncode == 0, found.stderr
    resources = result_of(found)["plan"]["resources"]
    assert resources["reachable_cpus"] == 5
    assert "the cluster has 1 and can reach 5; waiting at most 300 s" in found.stderr
    assert growing.num_nodes() == 1


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (
            "{num_workers: 4, resources_per_worker: {CPU: 2}}",
            "4 workers need 8 CPUs; the cluster reaches 5",
        ),
        (
            "{num_workers: 2, resources_per_worker: {CPU: 1, fast: 1}}",
            "a worker needs 1 CPU, 1 fast on one node; node type pair has 2 CPU",
        ),
    ],
)
def test_more_than_it_can_reach_is_refused_at_once(
    growing: Cluster, tmp_path: Path, scaling: str, expected: str
) -> None:
    found = growing.run(*command("train", tmp_path, scaling))

    assert expected in problems_of(found)
    assert growing.num_nodes() == 1
    assert not list(tmp_path.iterdir())


def test_a_run_grows_the_cluster_and_idle_nodes_go_away(growing: Cluster, tmp_path: Path) -> None:
    found = growing.run(*command("train", tmp_path), timeout=200)

    assert found.returncode == 0, found.stderr
    assert result_of(found)["status"] == "finished"
    assert_shrinks(growing)


def test_nodes_of_a_run_that_is_stopped_go_away_as_soon(growing: Cluster, tmp_path: Path) -> None:
    words = command("train", tmp_path)
    words = [word.replace("2 epochs", "2000 epochs") for word in words]
    journal = tmp_path / "quickstart" / "journal.jsonl"
    process = subprocess.Popen(
        words, env=growing.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 200
    while not (journal.is_file() and '"progress"' in journal.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)

    process.terminate()

    assert process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert_shrinks(growing)


def assert_shrinks(cluster: Cluster) -> None:
    deadline = time.monotonic() + 60
    while cluster.num_nodes() != 1:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_the_older_autoscaler_is_understood_too(tmp_path: Path) -> None:
    with started_cluster("--num-cpus=1", autoscaling=TYPES) as cluster:
        facts = cluster.python(FACTS, str(tmp_path))

    assert (facts["cpus"], facts["max_cpus"], facts["max_gpus"]) == (1, 5, 0)
    assert [(node["name"], node["count"]) for node in facts["nodes"] if not node["present"]] == [
        ("node type pair", 2)
    ]


def test_a_cluster_that_does_not_say_what_it_can_reach_is_waited_for_only_so_long(
    tmp_path: Path,
) -> None:
    with started_cluster("--num-cpus=1", "--no-monitor") as cluster:
        reach = cluster.python(REPORTS, str(tmp_path))
        found = cluster.run(*command("train", tmp_path, SCALING.replace("300", "3")))

    assert reach == {"none": 1, "older": None, "newer": None}
    assert "2 workers with 2 CPU each did not fit within 3 s" in problems_of(found)
    assert "does not say what it can reach" in found.stderr
