"""Going through a batch a few images at a time, in one thread or in several.

A batch of images is tens of megabytes. Taken whole, each operation fetches it from memory anew and
writes to pages that the kernel has to clear first; a few images stay in a core's cache all the way
from the file to the batch.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_BYTES_PER_BLOCK = 2**20


def run_in_blocks(
    work: Callable[[slice], None], num_rows: int, *, bytes_per_row: int, threads: int
) -> None:
    """Call `work` on blocks of rows that together are the whole batch.

    Args:
        work: does the rows of a slice; called from several threads at once. A row's result may
            not depend on the rows beside it, because `threads` moves the borders.
        num_rows: of the batch.
        bytes_per_row: of the result; a block makes some megabytes.
        threads: how many work at the same time, at least 1. A batch of a single block is done in
            the calling thread.

    Raises:
        ValueError: `threads` is below 1.
        Exception: what `work` raised; of several errors, that of the first block.
    """
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}")
    blocks = blocks_of(num_rows, bytes_per_row=bytes_per_row, threads=threads)
    if threads == 1 or len(blocks) < 2:
        for rows in blocks:
            work(rows)
        return
    with ThreadPoolExecutor(min(threads, len(blocks)), thread_name_prefix="rayft-rows") as pool:
        for _ in pool.map(work, blocks):
            pass


def blocks_of(num_rows: int, *, bytes_per_row: int, threads: int) -> list[slice]:
    """Cut a batch into blocks of equal size, give or take a row.

    Their number is a multiple of `threads`, so that none waits for the last one, unless the batch
    is small.
    """
    num_blocks = -(-num_rows * bytes_per_row // _BYTES_PER_BLOCK)
    if num_blocks > 1:
        num_blocks = min(num_rows, -(-num_blocks // threads) * threads)
    ends = [num_rows * number // num_blocks for number in range(1, num_blocks + 1)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
