"""Images by row id, whatever the store holds."""

import numpy as np
from numpy.typing import NDArray

from rayft.errors import DataError, Problem
from rayft.store.rows import RowStore
from rayft.transforms.decode_batch import decode_batch


def gather_images(
    store: RowStore, row_ids: NDArray[np.int64], *, threads: int
) -> NDArray[np.uint8]:
    """Return the images of the rows `row_ids` [N], in that order.

    Args:
        store: a decoded or an encoded store; the pixels are the same.
        row_ids: ids of valid rows; they may repeat.
        threads: threads that decode; they change no byte.

    Returns:
        [N, S, S, C] of the store's size and channels.

    Raises:
        DataError: a shard cannot be fetched, or a stored file is damaged.
    """
    if store.manifest.stored_as == "decoded":
        return store.gather(row_ids)
    files = store.gather_files(row_ids)
    try:
        return decode_batch(
            files,
            size=store.stored_size,
            resize=store.manifest.resize,
            threads=threads,
            channels=store.manifest.channels,
        )
    except ValueError as error:
        fix = "delete the folder and run `rayft prepare` again"
        raise DataError(Problem(str(store.place), str(error), fix)) from error
