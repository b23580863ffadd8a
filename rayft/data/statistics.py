"""Mean and standard deviation of the training images, for `normalize: computed`."""

from typing import NamedTuple

import numpy as np

from rayft.feed.gather import gather_images
from rayft.store.dataset import Dataset

ROWS_AT_ONCE = 256
_LEVELS = np.arange(256, dtype=np.int64)


class ChannelStatistics(NamedTuple):
    """Statistics of each channel, on a scale where white is 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Over all pixels; at least 1/255, so that a constant channel can be divided by it."""


def channel_statistics(dataset: Dataset, *, threads: int = 1) -> ChannelStatistics:
    """Return mean and standard deviation of each channel over the training split.

    Pixels are counted by value, in integers; so the result does not depend on the order or
    the grouping of rows.
    """
    split = dataset.splits["train"]
    channels = split.store.manifest.channels
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(split), ROWS_AT_ONCE):
        ids = split.row_ids[start : start + ROWS_AT_ONCE]
        pixels = gather_images(split.store, ids, threads=threads).reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel], minlength=256)
    # Sums of squares of a large dataset overflow 64 bits only beyond 10^14 pixels.
    number = counts.sum(axis=1)
    total = (counts * _LEVELS).sum(axis=1)
    squares = (counts * _LEVELS**2).sum(axis=1)
    mean = total / number
    variance = np.maximum(squares / number - mean**2, 1.0)
    return ChannelStatistics(
        mean=tuple((mean / 255).tolist()), std=tuple((np.sqrt(variance) / 255).tolist())
    )
