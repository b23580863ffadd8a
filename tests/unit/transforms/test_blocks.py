import threading

import pytest

from rayft.transforms.blocks import blocks_of, run_in_blocks

LARGE = 2**19
"""Bytes of a row of which two fill a block."""


@pytest.mark.parametrize("num_rows", [0, 1, 7, 64, 101])
@pytest.mark.parametrize("threads", [1, 2, 3, 200])
@pytest.mark.parametrize("bytes_per_row", [12, 150_000, 50 * LARGE])
def test_blocks_cover_each_row_once_in_order(
    num_rows: int, threads: int, bytes_per_row: int
) -> None:
    blocks = blocks_of(num_rows, bytes_per_row=bytes_per_row, threads=threads)

    assert [row for block in blocks for row in range(num_rows)[block]] == list(range(num_rows))
    assert all(block.start < block.stop for block in blocks)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_get_equally_many_blocks_of_nearly_equal_size(threads: int) -> None:
    blocks = blocks_of(65, bytes_per_row=LARGE, threads=threads)

    sizes = [block.stop - block.start for block in blocks]
    assert len(blocks) % threads == 0
    assert max(sizes) - min(sizes) <= 1


def test_a_small_batch_is_one_block() -> None:
    assert blocks_of(128, bytes_per_row=32 * 32 * 3, threads=8) == [slice(0, 128)]


def test_threads_work_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)
    rows: list[slice] = []

    def work(block: slice) -> None:
        both.wait()
        rows.append(block)

    run_in_blocks(work, 4, bytes_per_row=LARGE, threads=2)

    assert sorted(rows, key=lambda block: block.start) == [slice(0, 2), slice(2, 4)]


@pytest.mark.parametrize("threads", [1, 4])
def test_the_error_of_the_first_block_is_raised(threads: int) -> None:
    def work(block: slice) -> None:
        raise ValueError(f"row {block.start}")

    with pytest.raises(ValueError, match="row 0"):
        run_in_blocks(work, 16, bytes_per_row=LARGE, threads=threads)


@pytest.mark.parametrize(("num_rows", "threads"), [(64, 1), (1, 8)])
def test_one_thread_or_one_block_stays_in_the_calling_thread(num_rows: int, threads: int) -> None:
    seen = set()

    run_in_blocks(
        lambda block: seen.add(threading.get_ident()),
        num_rows,
        bytes_per_row=LARGE,
        threads=threads,
    )

    assert seen == {threading.get_ident()}


def test_no_thread_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="threads must be 1 or more, got 0"):
        run_in_blocks(lambda block: None, 4, bytes_per_row=LARGE, threads=0)
