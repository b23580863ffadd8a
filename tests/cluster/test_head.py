"""The head of a template, started on this machine: who gets in, and where it listens."""

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.cluster.templates import LAUNCHER, ROOT, launcher

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
TOKEN = "0123456789abcdef" * 4
RAY = str(Path(sys.executable).parent / "ray")


@dataclass(frozen=True)
class Head:
    """A head that runs."""

    process: psutil.Process
    port: int
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(options: list[str], exported: str, token: Path) -> dict[str, str]:
    """Return what a container of the template would have in its environment."""
    given = dict(re.findall(r"-e (\w+)=(\S+)", " ".join(options)))
    given |= dict(re.findall(r"(RAY_\w+)=(\S+?)(?=[ ;])", exported))
    assert given["RAY_AUTH_TOKEN_PATH"] == "/home/ray/.rayft/auth_token"
    around = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**around, **given, "RAY_AUTH_TOKEN_PATH": str(token)}


def test_the_templates_start_the_same_head() -> None:
    """So that one of them speaks for all."""
    heads = [" ".join(launcher(name)["head_start_ray_commands"]) for name in LAUNCHER]

    # Machines of one's own have no resources in the file, so the command says them.
    assert len({head.replace(" --num-cpus=0", "") for head in heads}) == 1


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    config = launcher(LAUNCHER[0])
    token = tmp_path_factory.mktemp("token") / "auth_token"
    token.write_text(TOKEN, encoding="utf-8")
    token.chmod(0o600)
    exported, _, command = config["head_start_ray_commands"][-1].rpartition(";")
    kept = [
        word
        for word in shlex.split(command)[1:]
        if not word.startswith(("--port", "--object-manager-port", "--autoscaling-config"))
    ]
    environment = _environment(config["docker"]["run_options"], f"{exported};", token)
    port = _free_port()
    # Unix sockets allow short paths only, hence not pytest's folder.
    with tempfile.TemporaryDirectory(prefix="rfh", ignore_cleanup_errors=True) as folder:
        own = [f"--port={_free_port()}", f"--dashboard-port={port}", f"--temp-dir={folder}"]
        # Jobs go through the agent, which would be silent where another cluster has its port.
        own.append(f"--dashboard-agent-listen-port={_free_port()}")
        started = subprocess.Popen(
            [RAY, *kept, *own, "--block"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            found = Head(psutil.Process(started.pid), port, environment)
            _wait_until_it_answers(found, started)
            yield found
        finally:
            _end(found.process)
            started.wait()


def _wait_until_it_answers(head: Head, started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert started.poll() is None, "the head ended"
        try:
            _status(head, "/api/version", TOKEN)
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the dashboard did not answer")


def _end(process: psutil.Process) -> None:
    """End the head and what it started, each by its id."""
    children = process.children(recursive=True)
    for each in (process, *children):
        if each.is_running():
            each.terminate()
    _, left = psutil.wait_procs([process, *children], timeout=5)
    for each in left:
        each.kill()


def _status(head: Head, path: str, token: str | None) -> int:
    request = urllib.request.Request(head.url + path)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/cluster_status", "/nodes?view=summary"])
def test_nothing_is_told_without_the_token(head: Head, path: str) -> None:
    assert _status(head, path, None) == 401
    assert _status(head, path, TOKEN[::-1]) == 403
    assert _status(head, path, TOKEN) == 200


def test_the_dashboard_listens_on_loopback_only(head: Head) -> None:
    listening = {
        connection.laddr.ip
        for process in head.process.children(recursive=True)
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == head.port
    }

    assert listening == {"127.0.0.1"}


def test_a_job_runs_with_the_time_to_save(head: Head) -> None:
    names = ["RAY_JOB_STOP_WAIT_TIME_S", "RAY_USAGE_STATS_ENABLED", "PWD"]

    found = subprocess.run(
        [RAY, "job", "submit", "--address", head.url, "--", "printenv", *names],
        env=head.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 0, found.stdout + found.stderr
    # A job begins in the folder that Ray was started in: in a container, /home/ray.
    assert f"\n60\n0\n{ROOT}\n" in found.stdout
