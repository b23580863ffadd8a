"""In which order the rows of an epoch come, and what each machine fetches for it."""

from dataclasses import dataclass
from typing import Literal

from rayft.errors import Problem, SpecError
from rayft.plan.facts import DataFacts
from rayft.spec.run import RunSpec
from rayft.spec.size import parse_size

WINDOWS_IN_BUDGET = 3
"""The window in use, the one before it, whose shards may still be mapped, and the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlan:
    """The order, a function of seed, epoch and layout; never of the number of workers."""

    kind: Literal["permutation", "windowed", "balanced"]
    rows_per_shard: int
    shards_per_window: int
    """Shards whose rows are mixed; all of them unless the order is windowed."""
    num_shards: int
    """Shards of the training source."""
    reason: str
    fetched_at_first: int
    """Bytes that each machine fetches from an object store in the first epoch."""
    fetched_later: int
    """Bytes that each machine fetches in every later epoch."""


def is_remote(spec: RunSpec) -> bool:
    """Tell whether runs and rows lie in an object store."""
    return spec.storage_path.startswith(("s3://", "gs://"))


def plan_order(spec: RunSpec, data: DataFacts) -> OrderPlan:
    """Choose the order of rows.

    Raises:
        SpecError: a window cannot hold one shard, or balanced rows not the cache.
    """
    remote = is_remote(spec)
    budget = parse_size(spec.data.local_cache.budget)
    exceeds = remote and data.stored_bytes > budget
    kind: Literal["permutation", "windowed", "balanced"] = "permutation"
    if spec.data.order == "balanced":
        kind = "balanced"
        _check_balanced(data, budget, exceeds=exceeds)
    elif spec.data.order == "windowed" or (spec.data.order == "auto" and exceeds):
        kind = "windowed"
    window = data.num_shards
    if kind == "windowed":
        window = _shards_per_window(data, budget)
    return OrderPlan(
        kind=kind,
        rows_per_shard=data.rows_per_shard,
        shards_per_window=window,
        num_shards=data.num_shards,
        reason=_reason(spec, data, budget, exceeds=exceeds),
        fetched_at_first=data.stored_bytes if remote else 0,
        fetched_later=data.stored_bytes if exceeds else 0,
    )


def _shards_per_window(data: DataFacts, budget: int) -> int:
    shard_bytes = max(1, data.train_bytes // max(1, data.num_shards))
    shards = budget // WINDOWS_IN_BUDGET // shard_bytes
    if shards < 1:
        need = WINDOWS_IN_BUDGET * shard_bytes / 1e6
        raise SpecError(
            Problem(
                "data.local_cache.budget",
                f"{budget / 1e6:,.0f} MB cannot hold {WINDOWS_IN_BUDGET} shards of "
                f"{shard_bytes / 1e6:,.0f} MB",
                f"set it to {need:,.0f} MB or more",
            )
        )
    return min(shards, data.num_shards)


def _check_balanced(data: DataFacts, budget: int, *, exceeds: bool) -> None:
    """Refuse to fetch each shard again for every row of a rare class."""
    if exceeds:
        raise SpecError(
            Problem(
                "data.order",
                f"balanced takes rows from everywhere, and {data.stored_bytes / 1e9:,.2f} GB of "
                f"rows exceed the {budget / 1e9:,.2f} GB of data.local_cache.budget",
                "raise data.local_cache.budget, or use order: auto with class_weights: auto",
            )
        )


def _uses(data: DataFacts) -> str:
    """Say how often the rows of the largest and of the smallest class come."""
    counts = [count for count in data.counts["train"] if count]
    share = sum(counts) / max(1, len(counts))
    least, most = (share / count for count in (max(counts, default=1), min(counts, default=1)))
    return (
        f"every class has the same share; a row of the largest comes {least:.2g} times an epoch on "
        f"average, one of the smallest {most:.2g} times"
    )


def _reason(spec: RunSpec, data: DataFacts, budget: int, *, exceeds: bool) -> str:
    if spec.data.order == "balanced":
        return _uses(data)
    if spec.data.order != "auto":
        return "asked for"
    if not is_remote(spec):
        return "the rows lie on a disk that every node sees"
    stored = f"{data.stored_bytes / 1e9:,.2f} GB of rows"
    held = f"{budget / 1e9:,.2f} GB of data.local_cache.budget"
    return f"{stored} exceed {held}" if exceeds else f"{stored} fit into {held}"
