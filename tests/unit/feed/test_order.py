import numpy as np
import pytest

from rayft.feed.order import Ids, balanced_order, epoch_order, order_of_epoch, windows_of_epoch
from rayft.plan.order import OrderPlan


@pytest.mark.parametrize("num_rows", [1, 2, 103, 5000])
def test_every_row_once_in_every_epoch(num_rows: int) -> None:
    ids = np.arange(0, 3 * num_rows, 3)

    for epoch in range(3):
        assert np.array_equal(np.sort(epoch_order(ids, seed=7, epoch=epoch)), ids)


def test_seed_and_epoch_change_the_order_and_nothing_else_does() -> None:
    ids = np.arange(1000)

    orders = [epoch_order(ids, seed=s, epoch=e).tolist() for s in (0, 1) for e in (0, 1)]

    assert len({tuple(order) for order in orders}) == 4
    assert epoch_order(ids, seed=0, epoch=1).tolist() == orders[1]


def test_the_order_is_the_same_on_every_machine_and_numpy_version() -> None:
    # Committed numbers: a change here changes every run in the world.
    assert epoch_order(np.arange(8), seed=0, epoch=0).tolist() == GOLDEN


GOLDEN = [0, 2, 1, 5, 4, 3, 6, 7]


def test_rows_are_spread_evenly_over_an_epoch() -> None:
    ids = np.arange(10_000)

    first_half = epoch_order(ids, seed=3, epoch=2)[:5000]

    assert abs((first_half < 5000).mean() - 0.5) < 0.02


def _ordered(ids: Ids, *, seed: int, epoch: int, order: OrderPlan) -> Ids:
    return order_of_epoch(ids, np.zeros_like(ids), seed=seed, epoch=epoch, order=order).row_ids


def _windowed(**changes: int) -> OrderPlan:
    layout = {"rows_per_shard": 10, "shards_per_window": 4, "num_shards": 13} | changes
    return OrderPlan(
        kind="windowed", reason="asked for", fetched_at_first=0, fetched_later=0, **layout
    )


def test_windows_hold_every_row_once_and_their_own_shards_only() -> None:
    ids = np.setdiff1d(np.arange(125), [3, 50, 51])
    order = _windowed()

    for epoch in range(3):
        rows = _ordered(ids, seed=5, epoch=epoch, order=order)
        assert np.array_equal(np.sort(rows), ids)
        first = 0
        for shards in windows_of_epoch(order, seed=5, epoch=epoch):
            count = int(np.isin(ids // 10, shards).sum())
            assert set((rows[first : first + count] // 10).tolist()) == set(shards.tolist())
            first += count
        assert first == len(ids)


def test_shards_meet_other_shards_in_every_epoch_and_rows_are_mixed_within_windows() -> None:
    order, ids = _windowed(), np.arange(130)

    windows = [windows_of_epoch(order, seed=5, epoch=epoch) for epoch in range(2)]
    rows = _ordered(ids, seed=5, epoch=0, order=order)[:40]

    assert [sorted(w.tolist()) for w in windows[0]] != [sorted(w.tolist()) for w in windows[1]]
    # Rows of one shard in a row would be as good as unmixed.
    assert (np.diff(rows // 10) == 0).mean() < 0.5
    assert _ordered(ids, seed=6, epoch=0, order=order)[:40].tolist() != rows.tolist()


def test_one_window_of_all_shards_mixes_like_a_permutation() -> None:
    ids = np.arange(130)

    whole = _ordered(ids, seed=5, epoch=1, order=_windowed(shards_per_window=13))

    assert np.array_equal(whole, epoch_order(ids, seed=5, epoch=1))


def test_the_windowed_order_is_the_same_on_every_machine() -> None:
    # Committed numbers, as above.
    order = _windowed(rows_per_shard=2, shards_per_window=2, num_shards=5)

    assert _ordered(np.arange(10), seed=0, epoch=0, order=order).tolist() == WINDOWED_GOLDEN


WINDOWED_GOLDEN = [9, 8, 5, 4, 0, 2, 1, 3, 6, 7]


LABELS = np.array([0] * 60 + [1] * 25 + [3] * 4 + [4])
"""Four classes of five have rows; one of them has a single one."""


def test_balanced_epochs_give_every_class_its_share_and_keep_their_length() -> None:
    ids = np.arange(len(LABELS)) * 3

    for epoch in range(5):
        rows = balanced_order(ids, LABELS, seed=5, epoch=epoch).row_ids
        counts = np.bincount(LABELS[rows // 3], minlength=5)
        assert len(rows) == len(ids)
        assert counts[2] == 0
        assert set(counts[[0, 1, 3, 4]].tolist()) <= {22, 23}


def test_the_rows_of_a_class_come_equally_often_over_a_run_each_time_in_another_view() -> None:
    ids = np.arange(len(LABELS))
    uses = [balanced_order(ids, LABELS, seed=5, epoch=epoch) for epoch in range(7)]

    rows = np.concatenate([each.row_ids for each in uses])
    views = np.concatenate([each.views for each in uses])

    counts = np.bincount(rows, minlength=len(ids))
    for label in np.unique(LABELS):
        assert np.ptp(counts[label == LABELS]) <= 1
    for row in ids:
        assert sorted(views[rows == row].tolist()) == list(range(counts[row]))


def test_balanced_rows_are_mixed_and_follow_seed_and_epoch() -> None:
    ids = np.arange(len(LABELS))
    first = balanced_order(ids, LABELS, seed=5, epoch=0)

    # Sorted by class there would be three borders.
    assert (np.diff(LABELS[first.row_ids]) != 0).sum() > 40
    for other in ({"seed": 6, "epoch": 0}, {"seed": 5, "epoch": 1}):
        assert balanced_order(ids, LABELS, **other).row_ids.tolist() != first.row_ids.tolist()


def test_the_balanced_order_is_the_same_on_every_machine() -> None:
    # Committed numbers, as above.
    found = balanced_order(np.arange(6), np.array([0, 0, 0, 0, 0, 1]), seed=0, epoch=1)

    assert list(zip(found.row_ids.tolist(), found.views.tolist(), strict=True)) == BALANCED_GOLDEN


BALANCED_GOLDEN = [(2, 0), (3, 1), (5, 5), (5, 3), (0, 0), (5, 4)]
