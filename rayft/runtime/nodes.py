"""Check that every node runs what the driver runs and sees what it writes, before anything starts.

Without this a node that differs is found out an hour later, by whichever worker Ray puts there.
"""

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from uuid import uuid4

import ray

from rayft.errors import ClusterError, DataError, Problem
from rayft.runtime.each_node import NoAnswer, Node, alive_nodes, ask_each, own_node_id
from rayft.storage.location import Location

Versions = Mapping[str, str | None]
"""What must be the same everywhere: `Python` and packages, None where one is not installed."""

_PACKAGES = ("rayft", "torch", "ray")
_WAIT_S = 60.0
_LOOK_FOR_S = 3.0
"""How long a node looks for a file: a network file system may show a new one late."""
_SHARE = "put storage_path on a file system that all nodes share, or into s3:// or gs://"


def versions_here() -> Versions:
    """Return the versions in this process."""
    return _question("", "")()[0]


def check_nodes(storage: Location) -> None:
    """Ask every node for its versions, and where `storage` is local for a file just written there.

    Where the driver's node is the only one, nothing is asked.

    Args:
        storage: the folder of all runs.

    Raises:
        ClusterError: nodes differ from the driver, cannot see `storage`, or do not answer; one
            problem for each of them.
        DataError: the driver itself cannot write to `storage`.
    """
    nodes = [node for node in alive_nodes() if node.holds_workers]
    if not [node for node in nodes if node.id != own_node_id()]:
        return
    expected = versions_here()
    with _probe_file(storage) as (file, token):
        answers = ask_each(nodes, _question(file, token), wait_s=_WAIT_S)
    problems = []
    for node in nodes:
        match answers.get(node.id):
            case None:
                continue  # It is gone by now.
            case NoAnswer(reason):
                problems.append(Problem(node.name, reason, "mend it, or take it from the cluster"))
            case (versions, fault):
                problems += _problems(node.name, expected, versions, storage, fault)
    if problems:
        raise ClusterError(*problems)


def check_this_node(
    expected: Versions, storage: Location, *, witness: Location, content: bytes
) -> None:
    """Check the node of a worker, which may have come after the others were asked.

    Args:
        expected: the versions of the driver.
        storage: the folder of all runs.
        witness: a file in it that the driver has written.
        content: what is in that file.

    Raises:
        ClusterError: the node differs from the driver, or cannot see `storage`.
    """
    file = witness.url if storage.is_local else ""
    versions, fault = _question(file, content.decode())()
    node = Node(own_node_id(), platform.node(), ray.util.get_node_ip_address(), {})
    problems = _problems(node.name, expected, versions, storage, fault)
    if problems:
        raise ClusterError(*problems)


@contextmanager
def _probe_file(storage: Location) -> Iterator[tuple[str, str]]:
    """Write a file whose content nobody can guess; give its path and content, empty for remote."""
    if not storage.is_local:
        yield "", ""
        return
    token = uuid4().hex
    probe = storage / f".rayft-probe-{token}"
    made = [path for path in (storage.path, *storage.path.parents) if not path.exists()]
    try:
        try:
            probe.write_bytes(token.encode())
        except OSError as error:
            what = f"{storage} cannot be written to: {error.strerror}"
            fix = "choose another storage_path, or change the permission"
            raise DataError(Problem("storage_path", what, fix)) from error
        yield probe.url, token
    finally:
        with suppress(OSError):
            probe.delete()
        for path in made:
            with suppress(OSError):
                path.rmdir()


def _question(file: str, content: str) -> Callable[[], tuple[Versions, str]]:
    """Return the function that nodes run; as an inner one it travels as code (see `ask_each`).

    It gives the versions, and why `file` with `content` cannot be seen, where it was asked for.
    """
    packages, look_for_s = _PACKAGES, _LOOK_FOR_S

    def look() -> tuple[dict[str, str | None], str]:
        import sys
        import time
        from importlib.metadata import PackageNotFoundError, version
        from pathlib import Path

        versions: dict[str, str | None] = {
            "Python": f"{sys.version_info.major}.{sys.version_info.minor}"
        }
        for package in packages:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                versions[package] = None
        fault, until = "", time.monotonic() + look_for_s
        while file:
            try:
                same = Path(file).read_text() == content
                fault = "" if same else "another file is there"
            except OSError as error:
                fault = error.strerror or type(error).__name__
            if not fault or time.monotonic() > until:
                break
            time.sleep(0.2)
        return versions, fault

    return look


def _problems(
    node: str, expected: Versions, found: Versions, storage: Location, fault: str
) -> list[Problem]:
    """Return at most one problem, which says all that is wrong with a node."""
    what, fixes = [], []
    for package, wanted in expected.items():
        here = found.get(package)
        if _public(here) != _public(wanted):
            has = f"has {package} {here}" if here else f"has no {package}"
            what.append(f"{has} where the driver has {wanted or 'none'}")
            fixes.append(f"install {package} {wanted} there" if wanted else f"remove {package}")
    if fault:
        what.append(
            f"cannot see storage_path {storage} (it is local to another machine, or may not be "
            f"read: {fault})"
        )
        fixes.append(_SHARE)
    return [Problem(node, "; ".join(what), "; ".join(fixes))] if what else []


def _public(version: str | None) -> str:
    """Return a version without its build: 2.14.1+cpu and 2.14.1+cu126 train alike."""
    return (version or "").partition("+")[0]
