import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayft.transforms.rng import operation_uniforms, philox4x32, row_uniforms

IDS = np.arange(1000)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        (
            "00000000 00000000 00000000 00000000",
            "00000000 00000000",
            "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        ),
        (
            "ffffffff ffffffff ffffffff ffffffff",
            "ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_published_vectors_of_random123_come_out(counter: str, key: str, expected: str) -> None:
    words = philox4x32(_words(counter)[:, None], _words(key))

    assert words[:, 0].tolist() == _words(expected).tolist()


def test_each_part_of_the_key_has_its_own_place_in_the_counter() -> None:
    seed, epoch, row_id, operation, block = 0x123456789, 7, 0xABCDEF0123, 3, 1
    counter = np.array([0xCDEF0123, 0xAB, epoch, operation << 16 | block], np.uint64)
    words = philox4x32(counter[:, None], np.array([0x23456789, 0x1], np.uint64))

    drawn = row_uniforms(seed, epoch, np.array([row_id]), operation=operation, num=8)

    assert drawn[0, 4:].tolist() == (words[:, 0] / 2**32).tolist()


@given(
    ids=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20),
    seed=st.integers(-(2**63), 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
    num=st.integers(1, 9),
)
def test_a_row_draws_the_same_alone_and_in_any_company(
    ids: list[int], seed: int, epoch: int, num: int
) -> None:
    together = row_uniforms(seed, epoch, np.array(ids), operation=2, num=num)

    alone = [row_uniforms(seed, epoch, np.array([row]), operation=2, num=num)[0] for row in ids]

    assert np.array_equal(together, alone)


def test_asking_for_fewer_numbers_changes_none_of_them() -> None:
    many = row_uniforms(0, 0, IDS, operation=0, num=22)

    few = row_uniforms(0, 0, IDS, operation=0, num=5)

    assert np.array_equal(few, many[:, :5])


def test_operations_drawn_together_draw_what_each_draws_alone() -> None:
    nums = (1, 0, 22, 4)

    together = operation_uniforms(5, 6, IDS, nums=nums)

    alone = [
        row_uniforms(5, 6, IDS, operation=operation, num=num) for operation, num in enumerate(nums)
    ]
    assert all(np.array_equal(*pair) for pair in zip(together, alone, strict=True))


@pytest.mark.parametrize(
    "other",
    [
        row_uniforms(2, 0, IDS, operation=0, num=4),
        row_uniforms(1 + 2**32, 0, IDS, operation=0, num=4),
        row_uniforms(1, 1, IDS, operation=0, num=4),
        row_uniforms(1, 0, IDS, operation=1, num=4),
        row_uniforms(1, 0, IDS + 1000, operation=0, num=4),
        row_uniforms(1, 0, IDS + 2**32, operation=0, num=4),
        row_uniforms(1, 0, IDS, operation=0, num=8)[:, 4:],
    ],
    ids=["seed", "seed above 2^32", "epoch", "operation", "row", "row above 2^32", "block"],
)
def test_another_key_gives_unrelated_numbers(other: np.ndarray) -> None:
    base = row_uniforms(1, 0, IDS, operation=0, num=4)

    correlation = np.corrcoef(base.ravel(), other.ravel())[0, 1]

    assert abs(correlation) < 0.06  # four standard deviations of 4000 pairs


def test_the_numbers_are_uniform_from_0_to_below_1() -> None:
    drawn = row_uniforms(1, 0, np.arange(100_000), operation=0, num=4)

    counts = np.histogram(drawn, bins=64, range=(0, 1))[0]
    expected = drawn.size / 64
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert chi_squared < 120  # 63 degrees of freedom: above once in 100 000


def _words(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], np.uint64)
