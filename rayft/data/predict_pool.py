"""Predicting on a Ray cluster: a pool of actors by Ray Data, each of which keeps the model."""

import logging
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import ray
from ray.data import ActorPoolStrategy

from rayft.data.predict_input import Chunk
from rayft.data.predict_parts import PartReport
from rayft.errors import RayftError

CHUNKS_AT_ONCE = 2
"""Chunks that an actor has in hand: while the last rows of one are computed and written, the next
one is being read."""

Predict = Callable[[int, Chunk], PartReport]
"""Predicts a chunk, given its number, and writes the part. Called from several threads at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The actors and what each of them reserves."""

    size: int
    num_cpus: float
    num_gpus: float
    environment: Mapping[str, str]
    """Environment variables that an actor needs and does not inherit."""


def predict_on_ray(
    chunks: Mapping[int, Chunk], *, make: Callable[[], Predict], pool: Pool
) -> Iterator[PartReport]:
    """Predict chunks by actors; gives a report for each as it comes in, in any order.

    Only descriptions of chunks go in and only reports come out: rows are read and parts written
    where the model is, so that no image passes through the object store.

    Args:
        chunks: the chunks by number.
        make: called once in each actor.
        pool: the actors.

    Raises:
        RayftError: as the predicting function raises it.
    """
    # Ray Data logs the plan of every execution, and every error with its whole stack.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    works = [{"work": pickle.dumps(work)} for work in chunks.items()]
    environment = {"env_vars": dict(pool.environment)} if pool.environment else None
    reports = ray.data.from_items(works, override_num_blocks=len(works)).map_batches(
        _Actor,
        batch_size=1,
        fn_constructor_args=[make],
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
        runtime_env=environment,
        compute=ActorPoolStrategy(
            size=pool.size,
            max_tasks_in_flight_per_actor=CHUNKS_AT_ONCE,
            max_concurrent_calls_per_actor=CHUNKS_AT_ONCE,
            enable_true_multi_threading=True,
        ),
    )
    reports.context.enable_progress_bars = False
    reports.context.print_on_execution_start = False
    # Not by `iter_rows`: it waits in a thread, which a signal could not take out of its wait.
    for bundle in reports.iter_internal_ref_bundles():
        for entry in bundle.blocks:
            for found in ray.get(entry.ref).column("report").to_pylist():
                yield _report(found)


class _Actor:
    def __init__(self, make: Callable[[], Predict]) -> None:
        self._predict = make()

    def __call__(self, batch: dict[str, npt.NDArray[np.object_]]) -> dict[str, Sequence[bytes]]:
        return {"report": [self._one(work) for work in batch["work"]]}

    def _one(self, work: bytes) -> bytes:
        """Return a failure as data: Ray Data would wrap the exception twice and try again."""
        # Between processes of one cluster, which run each other's code in any case.
        index, chunk = pickle.loads(work)  # noqa: S301
        try:
            return pickle.dumps(self._predict(index, chunk))
        except RayftError as error:
            return pickle.dumps(error)


def _report(found: bytes) -> PartReport:
    report = pickle.loads(found)  # noqa: S301  as above
    if isinstance(report, RayftError):
        raise report
    assert isinstance(report, PartReport)
    return report
