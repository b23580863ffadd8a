from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayft.plan.facts import SplitName
from rayft.store.splits import Cuts, Fold, Share, cut_rows, folds_of, hash_places, row_hash
from rayft.store.units import joined_hashes, units_of

CLASSES = ("ant", "bee", "cat")
Masks = dict[SplitName, npt.NDArray[np.bool_]]


def _hashes(num_rows: int, *, of: str = "row") -> npt.NDArray[np.uint64]:
    return np.array([row_hash(f"{of} {row}".encode()) for row in range(num_rows)], np.uint64)


def _cut(cuts: Cuts, labels: Sequence[int], hashes: npt.NDArray[np.uint64] | None = None) -> Masks:
    found = np.asarray(labels)
    hashes = _hashes(len(found)) if hashes is None else hashes
    return cut_rows(cuts, hashes=hashes, labels=found, classes=CLASSES)


def _counts(mask: npt.NDArray[np.bool_], labels: Sequence[int]) -> list[int]:
    return np.bincount(np.asarray(labels)[mask], minlength=len(CLASSES)).tolist()


SHARES = st.one_of(
    st.none(), st.builds(Share, fraction=st.floats(0.01, 0.45), stratify=st.booleans())
)
FOLDS = st.integers(2, 6).flatmap(
    lambda folds: st.builds(Fold, folds=st.just(folds), fold=st.integers(0, folds - 1))
)
CUTS = st.builds(Cuts, test=SHARES, validation=st.one_of(SHARES, FOLDS))


@given(CUTS, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20)), min_size=1, max_size=80))
def test_every_row_is_in_exactly_one_split_and_no_group_is_torn(
    cuts: Cuts, rows: list[tuple[int, int]]
) -> None:
    labels, groups = zip(*rows, strict=True)
    hashes = _hashes(21, of="group")[list(groups)]

    splits = _cut(cuts, labels, hashes)

    assert (np.sum(list(splits.values()), axis=0) == 1).all()
    for mask in splits.values():
        assert not set(hashes[mask].tolist()) & set(hashes[~mask].tolist())


@given(st.integers(1, 400), st.floats(0.01, 0.45), st.floats(0.01, 0.45))
def test_a_stratified_share_is_exact_in_every_class(n: int, test: float, validation: float) -> None:
    labels = [0] * n + [1] * 57
    cuts = Cuts(test=Share(fraction=test), validation=Share(fraction=validation))

    splits = _cut(cuts, labels)

    for label, count in ((0, n), (1, 57)):
        of_class = np.asarray(labels) == label
        found = {name: int(mask[of_class].sum()) for name, mask in splits.items()}
        assert found == cuts.expected(count)
        wanted = max(1, int(np.floor(test * count + 0.5)))
        assert found["test"] == min(wanted, count - 1)
    assert all(splits["train"][np.asarray(labels) == label].any() for label in (0, 1))


def test_a_small_class_has_a_row_in_every_split_where_it_has_enough() -> None:
    labels = [0] * 40 + [1] * 3

    splits = _cut(Cuts(test=Share(fraction=0.1), validation=Share(fraction=0.1)), labels)

    assert [_counts(splits[name], labels)[:2] for name in ("train", "validation", "test")] == [
        [32, 1],
        [4, 1],
        [4, 1],
    ]


def test_the_only_row_of_a_class_trains() -> None:
    splits = _cut(Cuts(validation=Share(fraction=0.4)), [0, 0, 0, 1])

    assert splits["train"][3]


@pytest.mark.parametrize("stratify", [True, False])
def test_a_validation_share_takes_no_row_from_test(stratify: bool) -> None:
    labels = np.arange(1000) % 3
    test = Share(fraction=0.2, stratify=stratify)

    alone = _cut(Cuts(test=test), labels)["test"]
    beside = [Share(fraction=0.3), Share(fraction=0.3, stratify=False), Fold(folds=5, fold=1)]

    assert all(
        np.array_equal(_cut(Cuts(test=test, validation=cut), labels)["test"], alone)
        for cut in beside
    )


def test_adding_rows_moves_few_others_and_none_of_another_class() -> None:
    labels = [0] * 2000 + [1] * 500
    grown = [*labels, *([0] * 20)]
    cuts = Cuts(validation=Share(fraction=0.1))

    before, after = _cut(cuts, labels)["validation"], _cut(cuts, grown)["validation"][:2500]

    moved = np.flatnonzero(before != after)
    assert (moved < 2000).all()
    # Rows can move only where new ones push the border: no more than there are new ones.
    assert len(moved) <= 20
    assert _counts(_cut(cuts, grown)["validation"], grown) == [202, 50, 0]


def test_without_stratification_no_row_ever_moves() -> None:
    cuts = Cuts(
        test=Share(fraction=0.2, stratify=False), validation=Share(fraction=0.1, stratify=False)
    )

    small, large = _cut(cuts, [0] * 300), _cut(cuts, np.arange(900) % 3)

    assert all(np.array_equal(small[name], large[name][:300]) for name in small)
    shares = {name: mask.mean() for name, mask in _cut(cuts, [0] * 20_000).items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.01)


def test_the_order_of_rows_does_not_matter() -> None:
    labels = np.arange(300) % 3
    hashes = _hashes(100)[np.arange(300) % 100]
    order = np.random.default_rng(0).permutation(300)
    for cuts in (Cuts(test=Share(fraction=0.2)), Cuts(validation=Fold(folds=4, fold=2))):
        straight, mixed = _cut(cuts, labels, hashes), _cut(cuts, labels[order], hashes[order])
        assert all(np.array_equal(mask[order], mixed[name]) for name, mask in straight.items())


class TestFolds:
    @pytest.mark.parametrize(
        ("folds", "counts"), [(5, (50, 23, 7)), (2, (3, 2, 5)), (3, (9, 9, 3))]
    )
    def test_they_hold_every_row_once_and_their_share_of_every_class(
        self, folds: int, counts: tuple[int, ...]
    ) -> None:
        labels = np.repeat(np.arange(3), counts)

        parts = [
            _cut(Cuts(validation=Fold(folds=folds, fold=fold)), labels)["validation"]
            for fold in range(folds)
        ]

        assert (np.sum(parts, axis=0) == 1).all()
        found = np.array([_counts(part, labels) for part in parts])
        for label, count in enumerate(counts):
            assert set(found[:, label].tolist()) <= {count // folds, -(-count // folds)}

    def test_the_spare_rows_of_many_classes_do_not_all_go_to_one_fold(self) -> None:
        classes = tuple(f"class {number}" for number in range(200))
        labels = np.repeat(np.arange(200), 6)

        sizes = [
            cut_rows(
                Cuts(validation=Fold(folds=5, fold=fold)),
                hashes=_hashes(1200),
                labels=labels,
                classes=classes,
            )["validation"].sum()
            for fold in range(5)
        ]

        assert sum(sizes) == 1200
        # 200 spare rows: about 40 for each of the five.
        assert max(sizes) - min(sizes) < 40

    def test_a_test_share_is_no_part_of_any_fold(self) -> None:
        labels = np.arange(90) % 3
        masks = [
            _cut(Cuts(test=Share(fraction=0.1), validation=Fold(folds=3, fold=fold)), labels)
            for fold in range(3)
        ]

        whole = np.sum([mask["validation"] for mask in masks], axis=0) + masks[0]["test"]
        assert (whole == 1).all()
        assert _counts(masks[0]["validation"], labels) == [9, 9, 9]

    def test_a_large_group_leaves_no_fold_empty(self) -> None:
        groups = [0] * 50 + [1, 2, 3]
        hashes = _hashes(4, of="group")[groups]

        parts = [
            _cut(Cuts(validation=Fold(folds=4, fold=fold)), [0] * 53, hashes)["validation"]
            for fold in range(4)
        ]

        assert sorted(int(part.sum()) for part in parts) == [1, 1, 1, 50]


def test_equal_contents_of_two_classes_stay_together() -> None:
    hashes = _hashes(30)[np.r_[np.arange(30), 3, 5]]
    labels = [0] * 15 + [1] * 15 + [1, 2]

    for fold in range(3):
        part = _cut(Cuts(validation=Fold(folds=3, fold=fold)), labels, hashes)["validation"]
        assert part[30] == part[3]
        assert part[31] == part[5]


def test_a_unit_counts_for_the_class_that_most_of_its_rows_have_or_the_first_of_several() -> None:
    units = units_of(np.array([7, 7, 7, 9, 9, 5], np.uint64), np.array([1, 0, 1, 2, 1, 0]))

    found = dict(zip(units.hashes.tolist(), units.classes.tolist(), strict=True))
    assert found == {7: 1, 9: 1, 5: 0}
    assert dict(zip(units.hashes.tolist(), units.sizes.tolist(), strict=True)) == {7: 3, 9: 2, 5: 1}


def test_rows_are_joined_by_chains_of_groups_and_contents() -> None:
    groups = np.array([9, 9, 5, 5, 7, 3, 8], np.uint64)
    contents = np.array([100, 101, 101, 102, 102, 103, 100], np.uint64)

    assert joined_hashes(groups, contents).tolist() == [5, 5, 5, 5, 5, 3, 5]
    assert joined_hashes(groups[:0], contents[:0]).tolist() == []


def test_without_copies_across_groups_the_groups_alone_decide() -> None:
    groups, contents = _hashes(30, of="group")[np.arange(90) % 30], _hashes(90)

    assert np.array_equal(joined_hashes(groups, contents), groups)
    assert joined_hashes(contents, contents) is contents


@given(st.integers(2, 6), st.lists(st.integers(0, 2), min_size=1, max_size=80))
def test_folds_are_those_that_each_run_cuts(number: int, labels: list[int]) -> None:
    test, hashes = Share(fraction=0.2), _hashes(len(labels))
    cuts = [Cuts(test=test, validation=Fold(folds=number, fold=fold)) for fold in range(number)]

    found = folds_of(cuts[0], hashes=hashes, labels=np.array(labels), classes=CLASSES)

    for fold, cut in enumerate(cuts):
        assert np.array_equal(_cut(cut, labels)["validation"], found == fold)
    assert np.array_equal(_cut(cuts[0], labels)["test"], found == -1)


def test_the_smallest_and_the_largest_hash_have_a_place() -> None:
    places = hash_places(np.array([0, 2**64 - 1], np.uint64))

    assert places[0] == 0
    assert places[1] < 1


def test_a_source_that_is_not_cut_trains_as_a_whole() -> None:
    splits = _cut(Cuts(), [0, 1])

    assert list(splits) == ["train"]
    assert splits["train"].all()


def test_the_hash_of_a_row_never_changes() -> None:
    # A change here moves every row of every dataset to another split.
    assert row_hash(b"rayft") == 0x17658A27B10734B5


def test_a_cut_never_changes() -> None:
    # A change here moves rows of data sets to other splits, and refuses to resume their runs.
    cuts = Cuts(test=Share(fraction=0.2), validation=Fold(folds=3, fold=1))

    splits = _cut(cuts, np.arange(24) % 3)

    found = {name: np.flatnonzero(mask).tolist() for name, mask in splits.items()}
    assert found == {
        "train": [0, 1, 5, 10, 11, 12, 15, 18, 19, 20, 22, 23],
        "validation": [3, 4, 6, 7, 14, 17],
        "test": [2, 8, 9, 13, 16, 21],
    }
