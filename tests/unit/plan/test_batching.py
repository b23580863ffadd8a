import pytest

from rayft.errors import SpecError
from rayft.plan.batching import BatchPlan, plan_batches
from rayft.spec.run import ExactReduction, MeanReduction


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("limit", [1, 3, 16, 64])
def test_every_split_restores_the_global_batch(world_size: int, limit: int) -> None:
    plan = plan_batches(
        64, world_size=world_size, max_rows_per_shard=limit, reduction=MeanReduction()
    )

    assert plan.rows_per_shard <= limit
    assert plan.rows_per_shard * plan.shards_per_worker * world_size == 64


@pytest.mark.parametrize("num_rows", range(1, 33))
@pytest.mark.parametrize("num_shards", [1, 2, 4, 8])
def test_shards_cut_any_step_into_consecutive_parts(num_rows: int, num_shards: int) -> None:
    plan = BatchPlan(global_batch_size=32, world_size=1, num_shards=num_shards)

    rows = [row for shard in range(num_shards) for row in range(32)[plan.slice_of(shard, num_rows)]]

    assert rows == list(range(num_rows))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_workers_walk_every_shard_once(world_size: int) -> None:
    plan = BatchPlan(global_batch_size=32, world_size=world_size, num_shards=8)

    assert [s for rank in range(world_size) for s in plan.shards_of(rank)] == list(range(8))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_exact_reduction_fixes_the_shards_for_any_number_of_workers(world_size: int) -> None:
    plan = plan_batches(
        64,
        world_size=world_size,
        max_rows_per_shard=64,
        reduction=ExactReduction(kind="exact", shards=4),
    )

    assert (plan.num_shards, plan.rows_per_shard) == (4, 16)


def test_an_uneven_batch_is_refused_with_the_nearest_sizes() -> None:
    with pytest.raises(SpecError) as caught:
        plan_batches(100, world_size=8, max_rows_per_shard=32, reduction=MeanReduction())

    assert str(caught.value) == (
        "global_batch_size: 100 rows cannot be shared equally by 8 workers\n"
        "  fix: set it to 96 or 104, or change scaling.num_workers"
    )


@pytest.mark.parametrize(
    ("size", "workers", "limit", "message"),
    [
        (64, 3, 64, "4 virtual shards cannot be shared equally by 3 workers"),
        (66, 2, 64, "66 rows cannot be cut into 4 equal virtual shards"),
        (64, 2, 8, "a shard of 16 rows is more than the 8"),
    ],
)
def test_exact_reduction_refuses_what_would_change_with_the_workers(
    size: int, workers: int, limit: int, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        plan_batches(
            size,
            world_size=workers,
            max_rows_per_shard=limit,
            reduction=ExactReduction(kind="exact", shards=4),
        )
