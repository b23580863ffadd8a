"""Predict chunks, in this process or by Ray actors, until all are done or a signal comes."""

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from rayft.data.predict_input import Chunk
from rayft.data.predict_parts import PartReport
from rayft.errors import ClusterError, Problem
from rayft.plan.facts import NodeFacts
from rayft.plan.placement import in_words
from rayft.runtime.address import named_cluster
from rayft.runtime.predict_scale import Machines, Scale, this_node, worker_need
from rayft.runtime.predict_worker import Work, Worker
from rayft.runtime.stop_at_once import stopping_on_signals

if TYPE_CHECKING:
    import ray

Arrays = Mapping[str, NDArray[np.generic]]

_WAIT_S = 1800.0
"""Longest wait for the first node of a cluster that has none for a worker; a machine takes minutes
to come."""
_CHUNKS_AT_ONCE = 2
"""While the last rows of a chunk are computed and written, the next one is being read."""


@contextmanager
def connected(*, uses_ray: bool) -> Iterator[Machines]:
    """Connect to the Ray cluster that is meant, if one runs; else look at this machine.

    Args:
        uses_ray: whether a cluster may be used at all.

    Raises:
        ClusterError: no cluster answers at `RAY_ADDRESS`.
    """
    if not uses_ray or not _is_told():
        yield Machines(nodes=(this_node(),))
        return
    import ray

    from rayft.runtime.launch import start_ray

    owns = start_ray()
    try:
        yield _machines()
    finally:
        if owns:
            ray.shutdown()


def _machines() -> Machines:
    """Return the nodes of the connected cluster, and those that its autoscaler can add."""
    from rayft.runtime.each_node import alive_nodes
    from rayft.runtime.growth import growth_of

    nodes = alive_nodes()
    growth = growth_of(nodes)
    there = [NodeFacts(name=node.name, resources=node.resources, memory_bytes=0) for node in nodes]
    return Machines(
        nodes=(*there, *(growth.kinds if growth else ())),
        most_new=growth.most if growth else None,
        is_cluster=True,
    )


def _is_told() -> bool:
    ray = sys.modules.get("ray")
    return named_cluster() is not None or (ray is not None and ray.is_initialized())


def run_here(
    chunks: Mapping[int, Chunk],
    work: Work,
    weights: Arrays,
    *,
    on_rows: Callable[[int], None],
) -> Iterator[PartReport]:
    """Predict chunks in this process; gives a report for each.

    Raises:
        RayftError: a chunk cannot be read or a part not be written.
        StoppedBySignal: a signal asked for it; what was in work is given up.
    """
    with catch_warnings():
        # Decoders warn of what damaged files hold; what cannot be read is reported anyway.
        simplefilter("ignore")
        worker = Worker(work, weights, on_rows=on_rows)
        runners = ThreadPoolExecutor(_CHUNKS_AT_ONCE, thread_name_prefix="rayft-chunk")
        try:
            futures = [runners.submit(worker, index, chunk) for index, chunk in chunks.items()]
            with stopping_on_signals() as check:
                for future in as_completed(futures):
                    yield future.result()
                    check()
        finally:
            worker.stop()
            runners.shutdown(cancel_futures=True)


def run_on_ray(
    chunks: Mapping[int, Chunk],
    work: Work,
    weights: Arrays,
    *,
    scale: Scale,
) -> Iterator[PartReport]:
    """Predict chunks by a pool of Ray actors; gives a report for each.

    Raises:
        RayftError: a chunk cannot be read or a part not be written.
        ClusterError: nodes differ from the driver or cannot see the folder, or none came that holds
            a worker.
        StoppedBySignal: a signal asked for it; what was in work is given up.
    """
    import ray

    from rayft.data.actor_pool import Pool, run_on_actors
    from rayft.runtime.launch import start_ray, worker_environment
    from rayft.runtime.nodes import check_nodes

    owns = start_ray()
    try:
        if scale.must_wait:
            _wait_for_a_node(scale)
        check_nodes(work.parts.folder)
        pool = Pool(
            size=scale.workers,
            num_cpus=scale.lanes,
            num_gpus=1 if scale.device == "cuda" else 0,
            custom={},
            environment=worker_environment(owns_cluster=owns),
            works_at_once=_CHUNKS_AT_ONCE,
        )
        make = partial(_make_worker, work, ray.put(dict(weights)))
        with stopping_on_signals() as check:
            for part in run_on_actors(list(chunks.items()), make=make, pool=pool):
                yield part
                check()
    finally:
        if owns:
            ray.shutdown()


def _wait_for_a_node(scale: Scale) -> None:
    """Wait until the first worker has a node; the others begin as theirs come.

    Raises:
        ClusterError: no node came.
        StoppedBySignal: a signal asked for it.
    """
    from rayft.runtime.signals import StopRequest
    from rayft.runtime.waiting import room_comes

    need = worker_need(scale.lanes, scale.device)
    with stopping_on_signals():
        if room_comes(need, 1, wait_s=_WAIT_S, request=StopRequest()):
            return
    what = f"no node with {in_words(need)} came within {_WAIT_S:g} s"
    fix = "see with `ray status` why, or predict on this machine with --workers 0"
    raise ClusterError(Problem("--workers", what, fix))


def _make_worker(
    work: Work, weights: "ray.ObjectRef[Any]"
) -> Callable[[tuple[int, Chunk]], PartReport]:
    import ray

    simplefilter("ignore")
    worker = Worker(work, ray.get(weights))
    return lambda chunk: worker(*chunk)
