"""The order of rows in an epoch: a keyed permutation, so a position is a few integers.

Nothing here depends on the number of workers, and nothing has to be saved.
"""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def epoch_order(row_ids: Ids, *, seed: int, epoch: int) -> Ids:
    """Return `row_ids` in the order of one epoch.

    The keys are raw 64-bit words of Philox4x64 (Salmon et al. 2011), whose stream is fixed by its
    definition; `Generator.permutation` may change between numpy versions. Equal keys, if any, keep
    the order of `row_ids`.

    Args:
        row_ids: [N] ids of the split, ascending.
        seed: seed of the run.
        epoch: number of the epoch in the whole run, from 0.

    Returns:
        [N] the same ids, each once.
    """
    # Key and counter are spelled out: a plain seed would go through SeedSequence, which hashes.
    keys = np.random.Philox(key=[seed, epoch]).random_raw(len(row_ids))
    return row_ids[np.argsort(keys, kind="stable")]
