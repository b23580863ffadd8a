"""Random numbers that belong to a row, not to a batch.

Philox4x32-10 is a counter-based generator: the numbers are a keyed hash of a counter, so any of
them can be had without the ones before it. Here the counter says whose number it is (row, epoch,
operation, index). So a row looks the same in whichever batch, worker or order it is augmented.

Source:
    Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3,
    https://doi.org/10.1145/2063384.2063405
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Uniforms = NDArray[np.float64]
"""[B, num], each in [0, 1): the random numbers of B rows for one operation."""

Epoch = int | NDArray[np.int64]

_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
_KEY_STEPS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_NUM_ROUNDS = 10
_WORD_BITS = 32
_WORD_MASK = 2**32 - 1
_WORDS_PER_BLOCK = 4
_BLOCK_BITS = 16


def row_uniforms(
    seed: int, epoch: Epoch, row_ids: NDArray[np.int64], *, operation: int, num: int
) -> Uniforms:
    """Return the random numbers of some rows for one operation of one epoch.

    A pure function of (seed, epoch, row id, operation, index): which rows are asked for together,
    and in which order, changes nothing; nor does asking for fewer numbers.

    Args:
        seed: the run's seed; its low 64 bits count.
        epoch: from 0, below 2**32; one for all rows, or [n] one for each.
        row_ids: [n] ids of the rows.
        operation: place of the operation in the list, from 0, below 2**16.
        num: numbers for each row, below 2**18.

    Returns:
        [n, num], multiples of 2**-32 in [0, 1).
    """
    return _draw(seed, epoch, row_ids, {operation: num})[0]


def operation_uniforms(
    seed: int, epoch: Epoch, row_ids: NDArray[np.int64], *, nums: Sequence[int]
) -> list[Uniforms]:
    """Return `row_uniforms` of the operations 0, 1, ... in one pass.

    At the size of a batch numpy's cost is calls, not numbers, so all operations together cost
    hardly more than one.

    Args:
        seed: as in `row_uniforms`.
        epoch: as in `row_uniforms`.
        row_ids: [n] ids of the rows.
        nums: how many numbers each operation wants for a row.

    Returns:
        For each operation, [n, num].
    """
    return _draw(seed, epoch, row_ids, dict(enumerate(nums)))


def philox4x32(counters: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Encrypt counters with ten rounds of Philox.

    Args:
        counters: [4, ...], words of 32 bits.
        key: [2], words of 32 bits.

    Returns:
        [4, ...] random words of 32 bits.
    """
    keys = key + np.arange(_NUM_ROUNDS, dtype=np.uint64)[:, None] * _KEY_STEPS & _WORD_MASK
    words = counters.reshape(2, 2, -1).copy()
    even, odd = words[:, 0], words[:, 1]
    products = np.empty_like(even)
    swapped = products[::-1]
    for round_key in keys[:, :, None]:
        np.multiply(even, _MULTIPLIERS, out=products)
        np.right_shift(swapped, _WORD_BITS, out=even)
        even ^= odd
        even ^= round_key
        np.bitwise_and(swapped, _WORD_MASK, out=odd)
    return words.reshape(counters.shape)


def _draw(
    seed: int, epoch: Epoch, row_ids: NDArray[np.int64], nums: Mapping[int, int]
) -> list[Uniforms]:
    blocks = [
        operation << _BLOCK_BITS | block
        for operation, num in nums.items()
        for block in range(_num_blocks(num))
    ]
    key = np.array([seed & _WORD_MASK, seed >> _WORD_BITS & _WORD_MASK], np.uint64)
    words = philox4x32(_counters(epoch, row_ids, blocks), key)
    uniforms: Uniforms = words.T.astype(np.float64) * 2.0**-_WORD_BITS
    uniforms = uniforms.reshape(len(row_ids), _WORDS_PER_BLOCK * len(blocks))
    result: list[Uniforms] = []
    start = 0
    for num in nums.values():
        result.append(uniforms[:, start : start + num])
        start += _WORDS_PER_BLOCK * _num_blocks(num)
    return result


def _num_blocks(num: int) -> int:
    return -(-num // _WORDS_PER_BLOCK)


def _counters(
    epoch: Epoch, row_ids: NDArray[np.int64], blocks: Sequence[int]
) -> NDArray[np.uint64]:
    ids = row_ids.astype(np.uint64)
    counters = np.empty((4, len(blocks), len(ids)), np.uint64)
    counters[0] = ids & _WORD_MASK
    counters[1] = ids >> _WORD_BITS
    counters[2] = epoch
    counters[3] = np.array(blocks, np.uint64)[:, None]
    return counters
