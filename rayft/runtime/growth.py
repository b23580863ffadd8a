"""How far the connected cluster can grow.

No call of Ray 2.60 tells the limits of its autoscaler, so they are read where it reads them
itself: in the file that Ray's monitor, on the head, was started with (`ray up` writes it there).
The autoscaler of KubeRay has them in Kubernetes; such a cluster grows and does not say how far.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import ray

from rayft.plan.facts import NodeFacts
from rayft.runtime.each_node import NoAnswer, Node, ask_each, own_node_id

_WAIT_S = 30.0
_GCS_OPTION = "--gcs-address="
_FILE_OPTION = "--autoscaling-config="


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Nodes that an autoscaler may still add."""

    kinds: tuple[NodeFacts, ...]
    most: int
    """Nodes of all kinds together."""


NO_GROWTH = Growth(kinds=(), most=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKind:
    """A node type of an autoscaler's configuration."""

    name: str
    resources: dict[str, float]
    most: int
    """Nodes of this type; the head counts where it is one."""
    is_head: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """An autoscaler's configuration, as far as it matters here."""

    kinds: tuple[NodeKind, ...]
    most_workers: int
    """Nodes of all types together, without the head."""


Monitor = Limits | Literal["fixed", "unseen"]
"""What Ray's monitor was started with: limits, or none (it only reports), or it is not there."""


def growth_of(nodes: Sequence[Node]) -> Growth | None:
    """Return what the connected cluster can grow by; None where it grows and does not say."""
    found = _ask_head(nodes)
    if isinstance(found, Limits):
        growth = still_to_come(found, nodes, _kinds_of_nodes())
        # Machines of one's own may be listed without saying what they have.
        silent = [kind for kind in growth.kinds if not kind.resources.keys() & {"CPU", "GPU"}]
        return None if silent and growth.most else growth
    if found == "fixed" or not _has_autoscaler(nodes):
        return NO_GROWTH
    return None


def still_to_come(limits: Limits, nodes: Sequence[Node], kind_of: dict[str, str]) -> Growth:
    """Take the nodes that are there from the limits.

    Args:
        limits: those of the autoscaler.
        nodes: nodes that are there.
        kind_of: the node type of each node, by its id.
    """
    head_kind = next((kind.name for kind in limits.kinds if kind.is_head), "")
    there = Counter(head_kind if node.is_head else kind_of.get(node.id, "") for node in nodes)
    kinds = tuple(
        NodeFacts(
            name=f"node type {kind.name}",
            resources=kind.resources,
            memory_bytes=int(kind.resources.get("memory", 0)),
            count=kind.most - there[kind.name],
            present=False,
        )
        for kind in limits.kinds
        if kind.most > there[kind.name]
    )
    workers_there = sum(not node.is_head for node in nodes)
    return Growth(kinds=kinds, most=max(0, limits.most_workers - workers_there))


def _ask_head(nodes: Sequence[Node]) -> Monitor:
    head = next((node for node in nodes if node.is_head), None)
    port = ray.get_runtime_context().gcs_address.rpartition(":")[2]
    if head is None:
        return "unseen"
    if head.id == own_node_id():
        return read_monitor(port)
    answer = ask_each([head], lambda: read_monitor(port), wait_s=_WAIT_S).get(head.id)
    return "unseen" if answer is None or isinstance(answer, NoAnswer) else answer


def read_monitor(gcs_port: str) -> Monitor:
    """Return what the monitor on this machine, of the cluster with this port, was started with."""
    for words in _command_lines():
        options = [word for word in words if word.startswith(_GCS_OPTION)]
        if "monitor.py" not in "".join(words[:4]) or not options:
            continue
        if "log_monitor.py" in "".join(words[:4]) or options[0].rpartition(":")[2] != gcs_port:
            continue
        files = [word.removeprefix(_FILE_OPTION) for word in words if _FILE_OPTION in word]
        return read_limits(files[0]) if files and files[0] else "fixed"
    return "unseen"


def _command_lines() -> Iterator[list[str]]:
    for process in psutil.process_iter():
        try:
            yield process.cmdline()
        except psutil.Error:
            continue


def read_limits(file: str) -> Limits | Literal["unseen"]:
    """Read an autoscaler's configuration with Ray's own reader, which fills in its defaults."""
    from ray.autoscaler.v2.instance_manager.config import FileConfigReader

    try:
        config = FileConfigReader(str(Path(file).expanduser())).get_cached_autoscaling_config()
        types = config.get_node_type_configs()
        most_workers = int(config.get_max_num_worker_nodes() or 0)
    except Exception:  # noqa: BLE001  of many kinds; a cluster that does not say is no fault
        return "unseen"
    kinds = tuple(
        NodeKind(
            name=name,
            resources={key: float(amount) for key, amount in kind.resources.items()},
            most=kind.max_worker_nodes,
            is_head=name == config.get_head_node_type(),
        )
        for name, kind in types.items()
    )
    return Limits(kinds=kinds, most_workers=most_workers)


def _kinds_of_nodes() -> dict[str, str]:
    """Return the autoscaler's node type of each node, by its id."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    found = (*status.active_nodes, *status.idle_nodes)
    return {node.node_id: node.ray_node_type_name for node in found}


def _has_autoscaler(nodes: Sequence[Node]) -> bool:
    """Return whether an autoscaler reports on the cluster from outside of the head."""
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.experimental.internal_kv import _internal_kv_get

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    if int(status.stats.autoscaler_version or 0) > 0:
        return True
    # The autoscaler before that writes its report here. A monitor that only reports does so too,
    # and takes each node for a type of its own, named after it.
    report = json.loads(_internal_kv_get(b"__autoscaling_status") or b"{}").get("autoscaler_report")
    if not report:
        return False
    return not {f"node_{node.id}" for node in nodes}.issuperset(report["active_nodes"] or {})
