"""A GPU whose memory ends: which setting is too large, and what to set it to."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rayft.errors import Problem, TrainingError
from rayft.plan.run_plan import RunPlan
from rayft.spec.run import ExactReduction

_TOLD = 3
"""Sentences of torch that say how much was wanted and how much there is; many more follow."""


@contextmanager
def out_of_memory_told(plan: RunPlan, *, rows: int | None = None) -> Iterator[None]:
    """Tell of a GPU whose memory ends in the `with` block as of an error that is not tried again.

    The same rows would not fit the next time either.

    Args:
        plan: the run.
        rows: held at once in the block, where it does not train shards.

    Raises:
        TrainingError: it does.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        held = plan.batches.rows_per_shard if rows is None else rows
        fix = _fix(plan, held // 2)
        said = ". ".join(str(error).split(". ")[:_TOLD])
        setting = f"rows_per_device is {plan.max_rows_per_device}"
        what = f"{held} rows at once do not fit into the GPU's memory; {setting} ({said})"
        raise TrainingError(Problem("rows_per_device", what, fix)) from error


def _fix(plan: RunPlan, fewer: int) -> str:
    if not fewer:
        return "train fewer groups, use a smaller image_size or backbone, or a larger GPU"
    reduction = plan.spec.reduction
    if isinstance(reduction, ExactReduction) and fewer < plan.batches.rows_per_shard:
        return (
            f"raise reduction.shards, which is {reduction.shards}, in a run of another name: with "
            "reduction: exact a shard is held at once"
        )
    return f"set rows_per_device to {fewer}; a run that has begun goes on with it"
