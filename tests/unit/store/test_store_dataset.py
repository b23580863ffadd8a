import pickle
from collections.abc import Callable

import numpy as np
import pytest

from rayft.errors import DataError
from rayft.store.dataset import CacheRef, DatasetRef, SplitRef, open_dataset
from rayft.store.rows import RowStore
from rayft.store.splits import share_intervals

MakeStore = Callable[..., RowStore]
NO_CACHE = CacheRef(path="auto", budget=10**9)


def _shares(store: RowStore) -> DatasetRef:
    intervals = share_intervals(test=0.2, validation=0.2)
    splits = {name: SplitRef(store=str(store.place), interval=i) for name, i in intervals.items()}
    return DatasetRef(classes=store.manifest.classes, splits=splits, cache=NO_CACHE)


def test_shares_of_a_store_hold_every_valid_row_once(make_store: MakeStore) -> None:
    dataset = open_dataset(_shares(make_store(100, bad=(3, 50))))

    rows = np.concatenate([split.row_ids for split in dataset.splits.values()])

    assert sorted(rows.tolist()) == sorted(set(range(100)) - {3, 50})
    assert all((np.diff(split.row_ids) > 0).all() for split in dataset.splits.values())


def test_a_row_keeps_its_split_when_rows_are_added(make_store: MakeStore) -> None:
    small = open_dataset(_shares(make_store(60, name="small")))
    large = open_dataset(_shares(make_store(100, name="large")))

    for name, split in small.splits.items():
        grown = large.splits[name].row_ids
        assert np.array_equal(split.row_ids, grown[grown < 60])


def test_labels_are_numbered_by_the_training_classes(make_store: MakeStore) -> None:
    train = make_store(20, name="train", classes=("bird", "cat", "dog"))
    test = make_store(20, name="test", classes=("cat", "dog"))
    ref = DatasetRef(
        cache=NO_CACHE,
        classes=train.manifest.classes,
        splits={"train": SplitRef(store=str(train.place)), "test": SplitRef(store=str(test.place))},
    )

    split = open_dataset(ref).splits["test"]

    assert split.labels_of([0, 1]).tolist() == [1, 2]
    assert split.labels_of([0]).dtype == np.int64
    assert split.counts() == (0, 10, 10)


def test_a_reference_survives_json(make_store: MakeStore) -> None:
    ref = _shares(make_store(20))

    copy = DatasetRef.from_json(ref.to_json())

    assert copy == ref


def test_the_fingerprint_follows_the_rows(make_store: MakeStore) -> None:
    store = make_store(100)
    whole = DatasetRef(
        cache=NO_CACHE,
        classes=store.manifest.classes,
        splits={"train": SplitRef(store=str(store.place))},
    )

    shares, again = (open_dataset(_shares(store)).fingerprint for _ in range(2))

    assert shares == again
    assert open_dataset(whole).fingerprint != shares
    assert len(shares) == 64


def test_a_dataset_travels_between_processes(make_store: MakeStore) -> None:
    dataset = open_dataset(_shares(make_store(100)))

    copy = pickle.loads(pickle.dumps(dataset))

    assert copy.fingerprint == dataset.fingerprint


def test_a_missing_store_is_refused(make_store: MakeStore) -> None:
    ref = DatasetRef(
        classes=("a", "b"), splits={"train": SplitRef(store="/no/such/store")}, cache=NO_CACHE
    )

    with pytest.raises(DataError, match="/no/such/store"):
        open_dataset(ref)
