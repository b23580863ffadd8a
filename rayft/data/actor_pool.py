"""Work on a Ray cluster by a pool of actors, each of which keeps a model."""

import gc
import logging
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from warnings import catch_warnings, simplefilter

import numpy as np
import numpy.typing as npt
import ray
from ray.data import ActorPoolStrategy
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.util.annotations import RayDeprecationWarning

from rayft.errors import Problem, RayftError

W = TypeVar("W")
R = TypeVar("R")

_MOST_IN_VAIN = 3
"""How often actors are started again after the process of one ended and before any other work was
done. Ray Data would do so without end, and where a work itself ends the process say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The actors and what each of them reserves."""

    size: int
    num_cpus: float
    num_gpus: float
    custom: Mapping[str, float]
    """Other resources that each reserves, by name."""
    environment: Mapping[str, str]
    """Environment variables that an actor needs and does not inherit."""
    works_at_once: int
    """Works that an actor has in hand, in a thread each."""


def run_on_actors(
    works: Sequence[W], *, make: Callable[[], Callable[[W], R]], pool: Pool
) -> Iterator[R]:
    """Do each work in one of the actors; gives a report for each as it comes in, in any order.

    Only descriptions go in and only reports come out: rows are read and results written where the
    model is, so that no image passes through the object store.

    Args:
        works: what is to be done; it can be pickled.
        make: called once in each actor; gives the function that does a work and returns its report.
        pool: the actors.

    Raises:
        RayftError: as that function raises it, or processes of actors end again and again.
    """
    # Ray Data logs the plan of every execution, and every error with its whole stack.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    left, in_vain = dict(enumerate(works)), 0
    while left:
        try:
            for index, report in _execute(left, make, pool):
                del left[index]
                in_vain = 0
                yield cast(R, report)
        except (RayActorError, OutOfMemoryError) as error:
            in_vain += 1
            if in_vain > _MOST_IN_VAIN:
                raise _given_up(error) from error
        if left:
            # Cycles of references in what failed would keep its other actors, and their CPUs.
            gc.collect()


def _execute(
    works: Mapping[int, W], make: Callable[[], Callable[[W], R]], pool: Pool
) -> Iterator[tuple[int, object]]:
    items = [{"work": pickle.dumps(work)} for work in works.items()]
    environment = {"env_vars": dict(pool.environment)} if pool.environment else None
    with catch_warnings():
        # Named settings are to come in place of those that the actors are given by a keyword.
        simplefilter("ignore", RayDeprecationWarning)
        reports = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Actor,
            batch_size=1,
            fn_constructor_args=[make],
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus,
            runtime_env=environment,
            max_restarts=0,
            resources=dict(pool.custom),
            compute=ActorPoolStrategy(
                size=min(pool.size, len(items)),
                max_tasks_in_flight_per_actor=pool.works_at_once,
                max_concurrent_calls_per_actor=pool.works_at_once,
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


def _given_up(error: Exception) -> RayftError:
    """Say why no more actors are started."""
    # The lines that are indented name the actor, which is gone.
    lines = [line for line in str(error).splitlines() if line and not line.startswith("\t")]
    times = f"the process of an actor ended {_MOST_IN_VAIN + 1} times"
    what = f"{times}, and nothing was done in between: {' '.join(lines)}"
    fix = "look at its log in Ray's folder; what was finished stays, and the same command goes on"
    return RayftError(Problem("Ray", what, fix))


class _Actor:
    def __init__(self, make: Callable[[], Callable[[Any], object]]) -> None:
        self._do = make()

    def __call__(self, batch: dict[str, npt.NDArray[np.object_]]) -> dict[str, Sequence[bytes]]:
        return {"report": [self._one(work) for work in batch["work"]]}

    def _one(self, work: bytes) -> bytes:
        """Return a failure as data: Ray Data would wrap the exception twice and try again."""
        try:
            # Between processes of one cluster, which run each other's code in any case.
            index, asked = pickle.loads(work)  # noqa: S301
            return pickle.dumps((index, self._do(asked)))
        except RayftError as error:
            return pickle.dumps(error)


def _report(found: bytes) -> tuple[int, object]:
    report = pickle.loads(found)  # noqa: S301  as above
    if isinstance(report, RayftError):
        raise report
    index, made = report
    return index, made
