"""Making shards on a Ray cluster, by Ray Data. The only module of preparing that imports ray."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import ray.data
from ray.data import DataContext

from rayft.data.shard import ShardReport, ShardWork, make_shard
from rayft.errors import DataError, Problem

CPUS_PER_SHARD = 1


def run_on_ray(works: Sequence[ShardWork]) -> Iterator[ShardReport]:
    """Make shards in Ray Data tasks, one task for each; gives reports as they come in.

    The work travels as blocks of one item through the object store, the images of a Python
    source within it; shards are written where the task runs, into a folder that all nodes
    share, and only the reports come back.

    Raises:
        DataError: as `make_shard` raises it.
    """
    if not works:
        return
    with _quiet():
        reports = (
            ray.data.from_items([{"work": work} for work in works], override_num_blocks=len(works))
            .map_batches(_make_shards, batch_size=1, num_cpus=CPUS_PER_SHARD)
            .iter_rows()
        )
        for row in reports:
            yield _report(row["report"], row["columns"])


def _make_shards(batch: dict[str, npt.NDArray[np.object_]]) -> dict[str, list[bytes]]:
    made = [_make_shard_or_say_why(work) for work in batch["work"]]
    return {"report": [report for report, _ in made], "columns": [columns for _, columns in made]}


def _make_shard_or_say_why(work: ShardWork) -> tuple[bytes, bytes]:
    """Return a refusal as data: Ray Data would wrap the exception twice and log its stack."""
    try:
        report = make_shard(work)
    except DataError as error:
        problems = [(problem.where, problem.what, problem.fix) for problem in error.problems]
        return json.dumps({"problems": problems}).encode(), b""
    return report.to_json().encode(), report.columns


def _report(text: bytes, columns: bytes) -> ShardReport:
    if problems := json.loads(text).get("problems"):
        raise DataError(*(Problem(*problem) for problem in problems))
    return ShardReport.from_json(text, columns)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data from drawing its own progress over ours, for the length of the block."""
    context = DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before
