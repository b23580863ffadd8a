"""Which nodes workers fit on.

Ray places each worker whole on one node, so totals over the cluster say too little: 2 nodes of 3
CPUs hold no worker of 4.
"""

from collections.abc import Iterable, Mapping, Sequence

from rayft.errors import ClusterError, Problem
from rayft.plan.facts import ClusterFacts, NodeFacts

_MOST_SHOWN = 4
_ROUNDING = 1e-6


def times(amount: float, total: float) -> int:
    """Return how often an amount fits into a total: 0.2 GPUs 5 times into one."""
    return int(total / amount + _ROUNDING)


def workers_on(node: NodeFacts, need: Mapping[str, float]) -> int:
    """Return how many workers that need `need` fit on one such node, whatever runs there now."""
    counts = [
        times(amount, node.resources.get(name, 0.0)) for name, amount in need.items() if amount > 0
    ]
    return min(counts, default=0)


def workers_now(cluster: ClusterFacts, need: Mapping[str, float]) -> int:
    """Return how many workers fit on the nodes that are there."""
    return sum(workers_on(node, need) * node.count for node in cluster.nodes if node.present)


def most_workers(cluster: ClusterFacts, need: Mapping[str, float]) -> int | None:
    """Return how many workers the cluster can hold; None where it does not say."""
    if not cluster.nodes or cluster.max_cpus is None:
        return None
    return workers_held(cluster.nodes, need, most_new=cluster.max_new_nodes)


def workers_held(
    nodes: Sequence[NodeFacts], need: Mapping[str, float], *, most_new: int | None
) -> int:
    """Return how many workers fit on nodes, those included that can be added.

    Args:
        nodes: those that are there, and kinds of nodes that can be added.
        need: what a worker needs.
        most_new: nodes of all kinds together that can be added; None where only the kinds' own
            limits hold.
    """
    new = [node for node in nodes if not node.present]
    left = sum(node.count for node in new)
    if most_new is not None:
        left = min(left, most_new)
    found = sum(workers_on(node, need) * node.count for node in nodes if node.present)
    for node in sorted(new, key=lambda node: -workers_on(node, need)):
        taken = min(left, node.count)
        found += taken * workers_on(node, need)
        left -= taken
    return found


def worker_memory(cluster: ClusterFacts, need: Mapping[str, float], num_workers: int) -> int:
    """Return the bytes that a worker can count on, on whichever node Ray puts it.

    A node's memory is shared by as many workers as fit there.
    """
    shares = [
        node.memory_bytes // min(num_workers, workers_on(node, need))
        for node in cluster.nodes
        if node.memory_bytes and workers_on(node, need)
    ]
    return min(shares, default=cluster.memory_bytes // num_workers)


def check_placement(cluster: ClusterFacts, need: Mapping[str, float], num_workers: int) -> None:
    """Check that the workers fit on nodes that the cluster has or can get.

    Raises:
        ClusterError: not one worker fits on any node, or fewer fit than are asked for.
    """
    most = most_workers(cluster, need)
    if most is None or most >= num_workers:
        return
    reserved = in_words(need)
    if most == 0:
        raise ClusterError(
            Problem(
                "scaling.resources_per_worker",
                f"a worker needs {reserved} on one node; {_largest(cluster.nodes, need)}",
                "lower scaling.resources_per_worker, or use larger nodes",
            )
        )
    raise ClusterError(
        Problem(
            "scaling.num_workers",
            f"{num_workers} workers need {reserved} each, on one node; the cluster's nodes hold "
            f"{most} of them: {_largest(cluster.nodes, need)}",
            "lower scaling.num_workers or scaling.resources_per_worker, or use more nodes",
        )
    )


def in_words(resources: Mapping[str, float]) -> str:
    """Return resources as text, such as `4 CPU, 1 GPU`."""
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items() if amount)


def _largest(nodes: Iterable[NodeFacts], need: Mapping[str, float]) -> str:
    """Say what nodes offer of what is needed, the largest first, alike ones once."""
    offers: dict[str, tuple[tuple[float, float], str]] = {}
    for node in nodes:
        offered = {name: node.resources.get(name, 0.0) for name in need if need[name] > 0}
        share = sum(min(1.0, offered[name] / need[name]) for name in offered)
        size = (share, sum(offered.values()))
        text = in_words(offered) or f"no {' and no '.join(offered)}"
        offers.setdefault(text, (size, node.name))
    ranked = sorted(offers.items(), key=lambda item: item[1][0], reverse=True)
    shown = [f"{name} has {text}" for text, (_, name) in ranked[:_MOST_SHOWN]]
    if len(ranked) > _MOST_SHOWN:
        shown.append(f"{len(ranked) - _MOST_SHOWN} other kinds of nodes have less")
    return ", ".join(shown)
