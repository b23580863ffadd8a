"""How a global batch is spread over workers and virtual shards. Integers only."""

from dataclasses import dataclass

from rayft.errors import Problem, SpecError
from rayft.spec.run import ExactReduction, ReductionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """One optimizer step: its virtual shards, and who walks them."""

    global_batch_size: int
    world_size: int
    num_shards: int
    """Virtual shards of a step, a multiple of `world_size`."""

    @property
    def rows_per_shard(self) -> int:
        """Rows of one micro-batch in a full step."""
        return self.global_batch_size // self.num_shards

    @property
    def shards_per_worker(self) -> int:
        """Micro-batches that one worker accumulates in a step."""
        return self.num_shards // self.world_size

    def shards_of(self, rank: int) -> range:
        """Return the shards that worker `rank` walks, in order."""
        first = rank * self.shards_per_worker
        return range(first, first + self.shards_per_worker)

    def slice_of(self, shard: int, num_rows: int) -> slice:
        """Return the part of a step's `num_rows` rows that belongs to `shard`.

        A short last step is shared as evenly as integers allow; a shard may get no row.
        """
        return slice(shard * num_rows // self.num_shards, (shard + 1) * num_rows // self.num_shards)


def plan_batches(
    global_batch_size: int,
    *,
    world_size: int,
    max_rows_per_shard: int,
    reduction: ReductionSpec,
) -> BatchPlan:
    """Divide one optimizer step's rows evenly over workers and micro-batches.

    The user fixes the global batch because the learning rate was tuned for it; everything else
    follows from the machines at hand. The split is exact or refused: rounding down would train
    another recipe on every cluster size.

    Args:
        global_batch_size: rows per optimizer step, over all workers.
        world_size: number of workers, at least 1.
        max_rows_per_shard: most rows one worker holds at once.
        reduction: `mean` takes as few shards as fit; `exact` fixes their number.

    Raises:
        SpecError: the batch cannot be shared equally, or its shards do not fit.
    """
    if isinstance(reduction, ExactReduction):
        return _exact(global_batch_size, world_size, max_rows_per_shard, reduction.shards)
    per_worker, remainder = divmod(global_batch_size, world_size)
    if remainder or not per_worker:
        raise SpecError(
            Problem(
                "global_batch_size",
                f"{global_batch_size} rows cannot be shared equally by {world_size} workers",
                f"set it to {_nearest(global_batch_size, world_size)}, "
                "or change scaling.num_workers",
            )
        )
    num_micro_batches = next(
        count
        for count in range(1, per_worker + 1)
        if per_worker % count == 0 and per_worker // count <= max_rows_per_shard
    )
    return BatchPlan(
        global_batch_size=global_batch_size,
        world_size=world_size,
        num_shards=world_size * num_micro_batches,
    )


def _exact(
    global_batch_size: int, world_size: int, max_rows_per_shard: int, shards: int
) -> BatchPlan:
    if shards % world_size:
        allowed = [str(2**power) for power in range(shards.bit_length())]
        raise SpecError(
            Problem(
                "scaling.num_workers",
                f"{shards} virtual shards cannot be shared equally by {world_size} workers",
                f"use {', '.join(allowed[:-1])} or {allowed[-1]} workers"
                if len(allowed) > 1
                else "use 1 worker, or raise reduction.shards",
            )
        )
    if global_batch_size % shards:
        raise SpecError(
            Problem(
                "global_batch_size",
                f"{global_batch_size} rows cannot be cut into {shards} equal virtual shards",
                f"set it to {_nearest(global_batch_size, shards)}, or change reduction.shards",
            )
        )
    if global_batch_size // shards > max_rows_per_shard:
        raise SpecError(
            Problem(
                "reduction.shards",
                f"a shard of {global_batch_size // shards} rows is more than the "
                f"{max_rows_per_shard} that a device holds at once",
                "raise reduction.shards, or lower global_batch_size",
            )
        )
    return BatchPlan(global_batch_size=global_batch_size, world_size=world_size, num_shards=shards)


def _nearest(size: int, divisor: int) -> str:
    below = size // divisor * divisor
    return " or ".join(str(choice) for choice in (below, below + divisor) if choice)
