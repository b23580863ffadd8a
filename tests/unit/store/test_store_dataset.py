import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from rayft.errors import DataError
from rayft.plan.facts import SplitName
from rayft.store.dataset import CacheRef, DatasetRef, SplitRef, open_dataset
from rayft.store.rows import RowStore
from rayft.store.splits import Cuts, Fold, Share

MakeStore = Callable[..., RowStore]
NO_CACHE = CacheRef(path="auto", budget=10**9)


def _shares(
    store: RowStore, *, left_out: tuple[int, ...] = (), stratify: bool = True
) -> DatasetRef:
    share = Share(fraction=0.2, stratify=stratify)
    cuts = Cuts(test=share, validation=share)
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    splits = {
        name: SplitRef(store=str(store.place), cuts=cuts, part=name, left_out=left_out)
        for name in names
    }
    return DatasetRef(classes=store.manifest.classes, splits=splits, cache=NO_CACHE)


def test_shares_of_a_store_hold_every_valid_row_once(make_store: MakeStore) -> None:
    dataset = open_dataset(_shares(make_store(100, bad=(3, 50))))

    rows = np.concatenate([split.row_ids for split in dataset.splits.values()])

    assert sorted(rows.tolist()) == sorted(set(range(100)) - {3, 50})
    assert all((np.diff(split.row_ids) > 0).all() for split in dataset.splits.values())


def test_bad_rows_take_no_share_of_a_class(make_store: MakeStore) -> None:
    dataset = open_dataset(_shares(make_store(90, bad=(0, 3, 6, 9, 12))))

    assert dataset.splits["test"].counts() == (5, 6, 6)


def test_rows_that_are_left_out_are_in_no_split_and_move_no_other(make_store: MakeStore) -> None:
    store = make_store(100, bad=(3,))
    gone = (3, 7, 8, 50, 99)

    whole, less = open_dataset(_shares(store)), open_dataset(_shares(store, left_out=gone))

    for name, split in whole.splits.items():
        kept = [row for row in split.row_ids.tolist() if row not in gone]
        assert less.splits[name].row_ids.tolist() == kept
    assert less.fingerprint != whole.fingerprint


def test_splits_of_one_store_may_cut_it_in_different_ways(make_store: MakeStore) -> None:
    store = make_store(40)
    ref = _shares(store)
    whole = SplitRef(store=str(store.place))

    dataset = open_dataset(replace(ref, splits={**ref.splits, "test": whole}))

    assert len(dataset.splits["test"]) == 40
    assert len(dataset.splits["train"]) < 40


def test_a_row_keeps_its_split_when_rows_are_added(make_store: MakeStore) -> None:
    small = open_dataset(_shares(make_store(60, name="small"), stratify=False))
    large = open_dataset(_shares(make_store(100, name="large"), stratify=False))

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


@pytest.mark.parametrize("left_out", [(), (0, 5, 19)])
@pytest.mark.parametrize("validation", [Fold(folds=3, fold=1), Share(fraction=0.1), None])
def test_a_reference_survives_json(
    make_store: MakeStore, validation: Share | Fold | None, left_out: tuple[int, ...]
) -> None:
    ref = _shares(make_store(20), left_out=left_out)
    cuts = Cuts(validation=validation)
    ref = replace(ref, splits={n: replace(s, cuts=cuts) for n, s in ref.splits.items()})

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


def test_a_long_list_of_left_out_rows_is_a_short_reference(make_store: MakeStore) -> None:
    ref = _shares(make_store(20), left_out=tuple(range(0, 200_000, 7)))

    assert DatasetRef.from_json(ref.to_json()) == ref
    assert len(ref.to_json()) < 20_000


def test_a_missing_store_is_refused(make_store: MakeStore) -> None:
    ref = DatasetRef(
        classes=("a", "b"), splits={"train": SplitRef(store="/no/such/store")}, cache=NO_CACHE
    )

    with pytest.raises(DataError, match="/no/such/store"):
        open_dataset(ref)
