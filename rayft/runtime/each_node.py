"""Ask every node of the connected cluster something, with one small task on each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_HEAD = "node:__internal_head__"
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive."""

    id: str
    hostname: str
    ip: str
    resources: dict[str, float]
    """All that Ray can hand out there, in use or not."""

    @property
    def name(self) -> str:
        """Return what a person can find the node by."""
        return f"node {self.hostname} ({self.ip}, {self.id[:8]})"

    @property
    def holds_workers(self) -> bool:
        """Return whether anything of a run can be placed here."""
        return self.resources.get("CPU", 0) > 0 or self.resources.get("GPU", 0) > 0

    @property
    def is_head(self) -> bool:
        """Return whether Ray's own services run here."""
        return _HEAD in self.resources


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why a node gave no answer."""

    reason: str


def alive_nodes() -> list[Node]:
    """Return the nodes that are alive, in the order of their ids."""
    found = [
        Node(
            id=node["NodeID"],
            hostname=node["NodeManagerHostname"],
            ip=node["NodeManagerAddress"],
            resources={name: float(amount) for name, amount in node["Resources"].items()},
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: node.id)


def own_node_id() -> str:
    """Return the id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def ask_each(
    nodes: Iterable[Node],
    question: Callable[[], _Answer],
    *,
    wait_s: float,
) -> dict[str, _Answer | NoAnswer]:
    """Run `question` once on each node, all at the same time; it needs no free CPU.

    Args:
        nodes: where to ask.
        question: an inner function travels as code; one that must be imported fails on a node
            without rayft.
        wait_s: longest wait for all of them, in seconds.

    Returns:
        The answer of each node, by its id. Nodes that are gone by now are left out.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node.id, soft=False)
        asked[node.id] = task.options(scheduling_strategy=here).remote()
    if not asked:
        return {}
    done, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=wait_s)
    in_time = set(done)
    answers: dict[str, _Answer | NoAnswer] = {}
    for node_id, reference in asked.items():
        if reference in in_time:
            answers[node_id] = _answer(reference)
        else:
            ray.cancel(reference, force=True)
            answers[node_id] = NoAnswer(f"did not answer within {wait_s:g} s")
    alive = {node.id for node in alive_nodes()}
    return {node_id: answer for node_id, answer in answers.items() if node_id in alive}


def _answer(reference: "ray.ObjectRef[_Answer]") -> _Answer | NoAnswer:
    try:
        found: _Answer = ray.get(reference)
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return NoAnswer(f"could not be asked: {lines[-1] if lines else type(error).__name__}")
    return found
