"""Which split a row belongs to, decided from its hash alone.

A row's hash is a place on [0, 1), and each split owns an interval of it. So a row keeps its
split whatever rows come or go beside it, equal contents never fall into different splits, and
every class gives about the same share, because hashes know nothing of classes.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rayft.plan.facts import SplitName


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Places from `start`, inclusive, to `stop`, exclusive; all of them by default."""

    start: float = 0.0
    stop: float = 1.0

    @property
    def share(self) -> float:
        """The expected share of rows."""
        return self.stop - self.start

    def contains(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Return for each hash [N] whether its place lies in the interval."""
        places = hash_places(hashes)
        return (places >= self.start) & (places < self.stop)


def share_intervals(*, test: float = 0.0, validation: float = 0.0) -> dict[SplitName, Interval]:
    """Cut [0, 1) into test, validation and train, in this order; empty shares are left out.

    Test comes first, so that its rows stay when a validation share is asked for later.
    """
    cut = min(1.0, test + validation)
    intervals: dict[SplitName, Interval] = {"train": Interval(start=cut)}
    if validation:
        intervals["validation"] = Interval(start=test, stop=cut)
    if test:
        intervals["test"] = Interval(stop=test)
    return intervals


def hash_places(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Return the place on [0, 1) of each hash [N]: its upper 53 bits, which a float64 holds."""
    return (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53


def row_hash(content: bytes | memoryview) -> int:
    """Return the 64-bit hash that rows and groups are known by."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
