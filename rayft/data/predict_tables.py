"""Tables cut to the size of a batch, wherever the pieces that are read end."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa


def in_batches(pieces: Iterable[Any], rows_per_batch: int) -> Iterator[Any]:
    """Give the rows of tables again, in tables of `rows_per_batch`; the last may be shorter."""
    held: list[Any] = []
    num_held = 0
    for piece in pieces:
        held.append(piece)
        num_held += piece.num_rows
        while num_held >= rows_per_batch:
            table = pa.concat_tables(held)
            yield table[:rows_per_batch]
            held = [table[rows_per_batch:]]
            num_held -= rows_per_batch
    if num_held:
        yield pa.concat_tables(held)
