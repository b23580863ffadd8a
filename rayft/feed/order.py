"""The order of rows in an epoch: a keyed permutation, so a position is a few integers.

Nothing here depends on the number of workers, and nothing has to be saved.
"""

import numpy as np
from numpy.typing import NDArray

from rayft.plan.order import OrderPlan

Ids = NDArray[np.int64]


_SHARD_KEYS = 1
"""Upper word of the counter from which shards draw; rows draw from 0 on."""


def order_of_epoch(row_ids: Ids, *, seed: int, epoch: int, order: OrderPlan) -> Ids:
    """Return `row_ids` [N] in the order of one epoch that the plan chose."""
    if order.kind == "permutation":
        return epoch_order(row_ids, seed=seed, epoch=epoch)
    return windowed_order(
        row_ids,
        seed=seed,
        epoch=epoch,
        rows_per_shard=order.rows_per_shard,
        windows=windows_of_epoch(order, seed=seed, epoch=epoch),
    )


def windows_of_epoch(order: OrderPlan, *, seed: int, epoch: int) -> list[Ids]:
    """Return the windows of one epoch, in their order: each the numbers of its shards.

    A permutation is one window of all shards.
    """
    shards = np.arange(order.num_shards, dtype=np.int64)
    if order.kind == "windowed":
        generator = np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, _SHARD_KEYS])
        shards = shards[np.argsort(generator.random_raw(order.num_shards), kind="stable")]
    starts = range(0, order.num_shards, order.shards_per_window)
    return [shards[start : start + order.shards_per_window] for start in starts]


def windowed_order(
    row_ids: Ids, *, seed: int, epoch: int, rows_per_shard: int, windows: list[Ids]
) -> Ids:
    """Return `row_ids` window by window, and mixed within each.

    Only the shards of two windows are needed at any moment, so a store larger than the disk can
    be trained on with one pass over it in each epoch.

    Args:
        row_ids: [N] ids of the split, ascending.
        seed: seed of the run.
        epoch: number of the epoch in the whole run, from 0.
        rows_per_shard: rows in every shard but the last.
        windows: shards of each window, in the order of the windows.

    Returns:
        [N] the same ids, each once.
    """
    window_of_shard = np.empty(sum(map(len, windows)), dtype=np.int64)
    for number, shards in enumerate(windows):
        window_of_shard[shards] = number
    keys = np.random.Philox(key=[seed, epoch]).random_raw(len(row_ids))
    return row_ids[np.lexsort((keys, window_of_shard[row_ids // rows_per_shard]))]


def epoch_order(row_ids: Ids, *, seed: int, epoch: int) -> Ids:
    """Return `row_ids` in the order of one epoch.

    The keys are raw 64-bit words of Philox4x64 (Salmon et al. 2011), whose stream is fixed by its
    definition; `Generator.permutation` may change between numpy versions. Equal keys, if any, keep
    the order of `row_ids`.

    Args:
        row_ids: [N] ids of the split, ascending.
        seed: seed of the run.
        epoch: number of the epoch in the whole run, from 0.

    Returns:
        [N] the same ids, each once.
    """
    # Key and counter are spelled out: a plain seed would go through SeedSequence, which hashes.
    keys = np.random.Philox(key=[seed, epoch]).random_raw(len(row_ids))
    return row_ids[np.argsort(keys, kind="stable")]
