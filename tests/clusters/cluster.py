"""Real Ray clusters, started as users start them, and ended without touching any other Ray."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ray.util import get_node_ip_address

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RAY, RAYFT = str(BIN / "ray"), str(BIN / "rayft")
HEAD_ID, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"
"""The fake provider knows the head under this id and type."""
_PORTS = (
    "--port",
    "--dashboard-port",
    "--ray-client-server-port",
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--metrics-export-port",
    "--runtime-env-agent-port",
)


@dataclass
class Cluster:
    """A running head, and the nodes that were added to it."""

    folder: Path
    """Ray's temporary folders, as RAY_TMPDIR; all processes of the cluster name it."""
    gcs_port: int
    dashboard_port: int
    _stack: ExitStack
    _seen: dict[int, psutil.Process] = field(default_factory=dict)
    _nodes: list[psutil.Process] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{get_node_ip_address()}:{self.gcs_port}"

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a driver that is to connect to this cluster."""
        return quiet_environment(RAY_ADDRESS=self.address)

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command that is to connect to this cluster, to its end."""
        given = {"cwd": ROOT, "timeout": 100, "env": self.environment, **options}
        return subprocess.run(words, capture_output=True, text=True, check=False, **given)

    def python(self, code: str, *words: str) -> Any:
        """Run Python code that is to connect to this cluster; return the JSON it prints last."""
        return run_python(code, self.environment, *words)

    def add_node(self, *arguments: str, before: Sequence[str] = (), **environment: str) -> None:
        """Run `ray start` for another node on this machine, with the words `before` it."""
        count = self.num_nodes()
        words = [*before, RAY, "start", "--block", f"--address={self.address}", *arguments]
        words += ["--dashboard-agent-listen-port=0", "--disable-usage-stats"]
        node = self._start(words, quiet_environment(**environment), f"node-{count}.log")
        self._nodes.append(node)
        _wait_until(lambda: self.num_nodes() > count, "the node did not join")

    def kill_node(self, place: int) -> None:
        """Kill all processes of a node that was added, as when its machine goes."""
        node = self._nodes[place]
        for process in [node, *node.children(recursive=True)]:
            with suppress(psutil.Error):
                process.kill()

    def num_nodes(self) -> int:
        """Return the number of nodes that have joined and are alive."""
        try:
            with urllib.request.urlopen(f"{self.dashboard}/api/v0/nodes", timeout=30) as answer:
                nodes = json.load(answer)["data"]["result"]["result"]
        except OSError:
            return 0
        return sum(node["state"] == "ALIVE" for node in nodes)

    def processes(self) -> list[psutil.Process]:
        """Return the cluster's processes that are alive, whoever their parent is."""
        parents = {pid for pid, process in self._seen.items() if _alive(process)}
        # Parents have lower numbers than their children, until the numbers begin anew.
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                mine = str(self.folder) in line or self.address in line
                if mine or process.ppid() in parents:
                    parents.add(process.pid)
                    self._seen.setdefault(process.pid, process)
        return [process for process in self._seen.values() if _alive(process)]

    def _start(
        self, words: Sequence[str], environment: Mapping[str, str], log: str
    ) -> psutil.Process:
        with (self.folder / log).open("w") as output:
            process = subprocess.Popen(
                words, stdout=output, stderr=output, env=environment, cwd=ROOT
            )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return psutil.Process(process.pid)

    def end(self) -> None:
        """End every process of this cluster, and no other."""
        left = self.processes()
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=10)


@contextmanager
def started_cluster(
    *arguments: str, autoscaling: Mapping[str, Any] | None = None, **environment: str
) -> Iterator[Cluster]:
    """Run `ray start --head` with ports and a folder of its own; end all of it afterwards."""
    # Unix sockets allow short paths only, hence not pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="rfc"))
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = Cluster(folder, ports["--port"], ports["--dashboard-port"], stack)
        words = [RAY, "start", "--head", "--block", f"--temp-dir={folder}/ray", *arguments]
        words += [f"{option}={port}" for option, port in ports.items()]
        words.append("--disable-usage-stats")
        if autoscaling is not None:
            words.append(f"--autoscaling-config={_write_config(cluster, autoscaling)}")
            environment |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
            environment |= {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID}
            environment |= {"RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_NODE_TYPE_NAME": HEAD_TYPE}
        stack.callback(cluster.end)
        cluster._start(words, quiet_environment(**environment), "head.log")
        _wait_until(lambda: cluster.num_nodes() == 1, "the head did not start")
        yield cluster


def _write_config(cluster: Cluster, types: Mapping[str, Any]) -> Path:
    file = cluster.folder / "autoscaling.json"
    file.write_text(json.dumps(configuration(types, gcs_address=cluster.address)))
    return file


def configuration(types: Mapping[str, Any], *, gcs_address: str) -> dict[str, Any]:
    """Return what an autoscaler is told whose nodes are processes of this machine."""
    lists = ("cluster_synced_files", "rsync_exclude", "rsync_filter", "setup_commands")
    lists += ("initialization_commands", "head_setup_commands", "worker_setup_commands")
    lists += ("head_start_ray_commands", "worker_start_ray_commands")
    return {
        "cluster_name": "fake",
        "max_workers": sum(kind["max_workers"] for kind in types.values()),
        "idle_timeout_minutes": 0.15,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": gcs_address,
        },
        "available_node_types": {
            name: {"node_config": {}, "min_workers": 0, **kind} for name, kind in types.items()
        },
        "head_node_type": HEAD_TYPE,
        "docker": {},
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in lists},
    }


FACTS = textwrap.dedent(
    """
    import dataclasses, json, sys
    import ray
    from rayft.runtime.facts import cluster_facts
    from rayft.storage.location import Location

    ray.init(log_to_driver=False, logging_level="ERROR")
    print(json.dumps(dataclasses.asdict(cluster_facts(Location(sys.argv[1])))))
    """
)
"""Code of a driver that prints what rayft knows of its cluster."""


def run_python(code: str, environment: Mapping[str, str], *words: str) -> Any:
    """Run Python code in a process of its own; return the JSON that it prints last.

    Not in the repository: Ray has every worker look first where its driver stands.
    """
    found = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment,
        cwd=ROOT.root,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert found.returncode == 0, found.stderr
    return result_of(found)


def result_of(found: subprocess.CompletedProcess[str]) -> Any:
    """Return the JSON in the last line of stdout, which is where `--json` prints it.

    Ray's core prints lines of its own there while a cluster changes.
    """
    return json.loads(found.stdout.splitlines()[-1])


def quiet_environment(**more: str) -> dict[str, str]:
    """Return the environment of a user who has set nothing for Ray, without tokens."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    # Ray gives its workers a low priority: on a machine that is busy with other tests they starve.
    own["RAY_worker_niceness"] = "0"
    return kept | own | more


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_until(holds: Any, otherwise: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def _alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
