"""The order of rows in an epoch: a keyed permutation, so a position is a few integers.

Nothing here depends on the number of workers, and nothing has to be saved.
"""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from rayft.plan.order import OrderPlan

Ids = NDArray[np.int64]


_SHARD_KEYS, _CLASS_KEYS, _BALANCED_KEYS = 1, 2, 3
"""Upper words of the counters from which shards and balanced rows draw; rows draw from 0 on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowViews:
    """Rows in some order, such as that of an epoch."""

    row_ids: Ids
    """[n]."""
    views: Ids
    """[n] which random view of each row is taken; a row has the same one twice only where few are
    kept."""

    def in_turn(self, num_views: int) -> "RowViews":
        """Return the rows with a few views of each, which are used one after the other."""
        return RowViews(row_ids=self.row_ids, views=self.views % num_views)

    def __getitem__(self, places: slice | Ids) -> "RowViews":
        """Return some of the rows."""
        return RowViews(row_ids=self.row_ids[places], views=self.views[places])


def order_of_epoch(
    row_ids: Ids, labels: Ids, *, seed: int, epoch: int, order: OrderPlan
) -> RowViews:
    """Return `row_ids` [N], whose classes are `labels` [N], in the order that the plan chose."""
    match order.kind:
        case "permutation":
            ids = epoch_order(row_ids, seed=seed, epoch=epoch)
        case "windowed":
            windows = windows_of_epoch(order, seed=seed, epoch=epoch)
            shard_rows = order.rows_per_shard
            ids = windowed_order(
                row_ids, seed=seed, epoch=epoch, rows_per_shard=shard_rows, windows=windows
            )
        case "balanced":
            return balanced_order(row_ids, labels, seed=seed, epoch=epoch)
        case _:
            assert_never(order.kind)
    return RowViews(row_ids=ids, views=np.full(len(ids), epoch, np.int64))


def balanced_order(row_ids: Ids, labels: Ids, *, seed: int, epoch: int) -> RowViews:
    """Return an epoch of N rows in which every class has the same share, one row more or less.

    The rows of a class come in turn, each once before any comes again, over the borders of epochs:
    its n rows make cycles, each in an order of its own. So every row of a class is used equally
    often, one time more or less, at any moment of the run.

    Args:
        row_ids: [N] ids of the split, ascending.
        labels: [N] their classes.
        seed: seed of the run.
        epoch: number of the epoch in the whole run, from 0.

    Returns:
        N rows; a row's view is the number of times it was used before.
    """
    classes = np.unique(labels)
    ids, views = [], []
    for place, label in enumerate(classes.tolist()):
        rows = row_ids[labels == label]
        # These floors add up to the epoch's N rows over all classes (Hermite's identity).
        first, last = ((at * len(row_ids) + place) // len(classes) for at in (epoch, epoch + 1))
        for cycle in range(first // len(rows), -(-last // len(rows))):
            generator = np.random.Philox(key=[seed, cycle], counter=[0, 0, label, _CLASS_KEYS])
            order = rows[np.argsort(generator.random_raw(len(rows)), kind="stable")]
            start = cycle * len(rows)
            used = order[max(0, first - start) : last - start]
            ids.append(used)
            views.append(np.full(len(used), cycle, np.int64))
    generator = np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, _BALANCED_KEYS])
    mixed = np.argsort(generator.random_raw(len(row_ids)), kind="stable")
    return RowViews(row_ids=np.concatenate(ids)[mixed], views=np.concatenate(views)[mixed])


def windows_of_epoch(order: OrderPlan, *, seed: int, epoch: int) -> list[Ids]:
    """Return the windows of one epoch, in their order: each the numbers of its shards.

    Every other order has one window of all shards.
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
