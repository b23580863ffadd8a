import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayft.store.splits import Interval, hash_places, row_hash, share_intervals


def _hashes(num_rows: int) -> npt.NDArray[np.uint64]:
    return np.array([row_hash(f"row {row}".encode()) for row in range(num_rows)], np.uint64)


@given(st.floats(0, 0.49), st.floats(0, 0.49))
def test_every_row_is_in_exactly_one_split(test: float, validation: float) -> None:
    hashes = _hashes(200)

    members = [
        s.contains(hashes) for s in share_intervals(test=test, validation=validation).values()
    ]

    assert np.array_equal(np.sum(members, axis=0), np.ones(200))


def test_the_smallest_and_the_largest_hash_have_a_place() -> None:
    places = hash_places(np.array([0, 2**64 - 1], np.uint64))

    assert places[0] == 0
    assert places[1] < 1
    assert Interval().contains(np.array([0, 2**64 - 1], np.uint64)).all()


def test_shares_come_out_close_to_what_was_asked_for() -> None:
    intervals = share_intervals(test=0.2, validation=0.1)

    shares = {name: part.contains(_hashes(20_000)).mean() for name, part in intervals.items()}

    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.01)


def test_a_validation_share_takes_no_row_from_test() -> None:
    hashes = _hashes(1000)
    alone = share_intervals(test=0.2)["test"].contains(hashes)

    both = share_intervals(test=0.2, validation=0.3)["test"].contains(hashes)

    assert np.array_equal(alone, both)


def test_shares_of_zero_are_no_splits() -> None:
    assert share_intervals() == {"train": Interval()}


def test_the_hash_of_a_row_never_changes() -> None:
    # A change here moves every row of every dataset to another split.
    assert row_hash(b"rayft") == 0x17658A27B10734B5
