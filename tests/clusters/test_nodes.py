"""Nodes that differ from the driver are named, all of them, before anything starts."""

import subprocess
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from rayft.runtime.machine import memory_bytes
from tests.clusters.cluster import FACTS, RAYFT, ROOT, Cluster, result_of, started_cluster

pytestmark = pytest.mark.ray

CHECK = textwrap.dedent(
    """
    import json, sys, time
    import ray
    from rayft.errors import RayftError
    from rayft.runtime.nodes import check_nodes
    from rayft.storage.location import Location

    ray.init(log_to_driver=False, logging_level="ERROR")
    started, problems = time.monotonic(), []
    try:
        check_nodes(Location(sys.argv[1]))
    except RayftError as error:
        problems = [[type(error).__name__, p.where, p.what, p.fix] for p in error.problems]
    print(json.dumps({"problems": problems, "seconds": time.monotonic() - started}))
    """
)
CHECK_FROM_A_WORKER = textwrap.dedent(
    """
    import json, sys
    import ray
    from rayft.errors import ClusterError
    from rayft.runtime.nodes import check_this_node, versions_here
    from rayft.storage.location import Location

    @ray.remote(num_cpus=0, resources={sys.argv[2]: 1})
    def work(versions, storage):
        witness = storage / "attempt"
        try:
            check_this_node(versions, storage, witness=witness, content=b"1")
        except ClusterError as error:
            return str(error)
        return ""

    ray.init(log_to_driver=False, logging_level="ERROR")
    storage = Location(sys.argv[1])
    (storage / "attempt").write_bytes(b"1")
    print(json.dumps(ray.get(work.remote(versions_here(), storage))))
    """
)
CAN_MOUNT = not subprocess.run(
    ["unshare", "-m", "true"], capture_output=True, check=False
).returncode


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started_cluster("--num-cpus=1") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def old_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which torch is of another version, and rayft broken and of another too."""
    folder = tmp_path_factory.mktemp("packages")
    for name in ("torch", "rayft"):
        info = folder / f"{name}-9.9.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9.0\n")
    (folder / "rayft").mkdir()
    (folder / "rayft" / "__init__.py").write_text("raise ImportError('rayft is broken here')\n")
    return folder


def test_a_cluster_of_one_node_is_not_asked(cluster: Cluster, storage: Path) -> None:
    found = cluster.python(CHECK, str(storage / "new" / "folder"))

    assert not found["problems"]
    assert found["seconds"] < 0.2
    assert not (storage / "new").exists()


@pytest.fixture(scope="module")
def alike(cluster: Cluster) -> Cluster:
    cluster.add_node("--num-cpus=2", '--resources={"alike": 1}')
    return cluster


def test_nodes_like_the_driver_pass_and_nothing_is_left_behind(
    alike: Cluster, storage: Path
) -> None:
    found = alike.python(CHECK, str(storage / "new" / "folder"))

    assert not found["problems"]
    assert not list(storage.iterdir())


@pytest.fixture(scope="module")
def unlike(alike: Cluster, storage: Path, old_packages: Path) -> Cluster:
    """Return a cluster with two nodes that differ, and one that does but can hold no worker."""
    path = f"{old_packages}:{ROOT}"
    alike.add_node("--num-cpus=1", '--resources={"old": 1}', PYTHONPATH=path)
    alike.add_node("--num-cpus=0", PYTHONPATH=path)
    hide = f'mount -t tmpfs none {storage} && exec "$@"'
    alike.add_node(
        "--num-cpus=1",
        '--resources={"blind": 1}',
        before=["unshare", "-m", "sh", "-c", hide, "sh"],
    )
    return alike


needs_mounts = pytest.mark.skipif(not CAN_MOUNT, reason="unshare -m needs more rights than we have")


@needs_mounts
def test_every_node_that_differs_is_named_with_all_that_is_wrong(
    unlike: Cluster, storage: Path
) -> None:
    found = unlike.python(CHECK, str(storage))["problems"]

    assert [name for name, *_ in found] == ["ClusterError"] * 2
    (old,) = [problem for problem in found if "torch" in problem[2]]
    (blind,) = [problem for problem in found if "storage_path" in problem[2]]
    assert old[1].startswith("node ")
    assert f"has rayft 9.9.0 where the driver has {version('rayft')}" in old[2]
    assert f"has torch 9.9.0 where the driver has {version('torch')}" in old[2]
    assert f"install torch {version('torch')} there" in old[3]
    assert f"cannot see storage_path {storage}" in blind[2]
    assert "torch" not in blind[2]
    assert "all nodes share" in blind[3]
    assert not list(storage.iterdir())


@needs_mounts
def test_a_run_is_refused_with_every_node_before_it_writes(unlike: Cluster, storage: Path) -> None:
    words = ["train", "jobs/quickstart.yaml", f"storage_path={storage}", "scaling.num_workers=2"]
    found = unlike.run(RAYFT, *words, "data.train.function=tests.laws.harness:pictures", "--json")

    assert found.returncode == 2, found.stderr
    assert len(result_of(found)["problems"]) == 2
    assert not (storage / "quickstart").exists()


@needs_mounts
@pytest.mark.parametrize(
    ("node", "expected"), [("alike", ""), ("blind", "cannot see storage_path")]
)
def test_a_worker_finds_the_same_on_a_node_that_came_later(
    unlike: Cluster, storage: Path, node: str, expected: str
) -> None:
    found = unlike.python(CHECK_FROM_A_WORKER, str(storage), node)

    assert expected in found
    assert bool(found) == bool(expected)
    (storage / "attempt").unlink()


def test_a_storage_path_that_may_not_be_written_is_refused(alike: Cluster, storage: Path) -> None:
    file = storage / "file"
    file.write_text("")

    (problem,) = alike.python(CHECK, str(file / "folder"))["problems"]

    assert problem[0] == "DataError"
    assert "cannot be written to" in problem[2]
    file.unlink()


FAKE_TORCH = """
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)

    @staticmethod
    def get_device_properties(index):
        from types import SimpleNamespace

        return SimpleNamespace(total_memory=16_000_000_000 + index, major=7, name="V100")
"""
TORCH_WITHOUT_CUDA = """
class cuda:
    is_available = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 2)
"""
NO_TORCH = "raise RuntimeError('torch was imported on a node without GPUs')"


def torch_that_is(code: str, folder: Path) -> str:
    """Return a path on which `torch` is this code."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text(code)
    return f"{folder}:{ROOT}"


def test_memory_and_gpus_are_those_of_the_nodes_that_can_hold_a_worker(tmp_path: Path) -> None:
    with started_cluster("--num-cpus=0") as cluster:
        path = torch_that_is(NO_TORCH, tmp_path / "cpu")
        cluster.add_node("--num-cpus=2", PYTHONPATH=path)
        path = torch_that_is(FAKE_TORCH, tmp_path / "gpu")
        cluster.add_node("--num-cpus=4", "--num-gpus=2", PYTHONPATH=path)
        facts = cluster.python(FACTS, str(tmp_path))

    nodes = {node["resources"].get("CPU", 0): node for node in facts["nodes"]}
    assert nodes[0]["memory_bytes"] == 0
    assert nodes[2]["memory_bytes"] == nodes[4]["memory_bytes"] == memory_bytes()
    assert facts["memory_bytes"] == memory_bytes()
    assert (facts["device"], facts["gpus"], facts["cpus"]) == ("cuda", 2, 6)
    assert facts["gpu_memory_bytes"] == 16_000_000_000
    assert facts["gpu_names"] == ["V100"]
    assert facts["gpu_bf16"] is False
    assert not facts["unusable_gpus"]


def test_nodes_whose_gpus_torch_cannot_compute_on_are_named(tmp_path: Path) -> None:
    with started_cluster("--num-cpus=1") as cluster:
        path = torch_that_is(TORCH_WITHOUT_CUDA, tmp_path)
        cluster.add_node("--num-cpus=1", "--num-gpus=2", PYTHONPATH=path)
        facts = cluster.python(FACTS, str(tmp_path))

    (name,) = facts["unusable_gpus"]
    assert name.startswith("node ")
