"""Pairs of images that look alike, found without comparing all pairs.

Candidates are pairs whose 64-bit hashes differ in at most 11 bits. Cut into 4 bands of 16 bits,
two such hashes differ in at most two bits of some band; so only rows with a band that is equal, or
one or two bits apart, meet (multi-index hashing: Norouzi, Punjani & Fleet 2012, "Fast Search in
Hamming Space"). Every candidate is then compared by its thumbnail, because hashes of plain
pictures meet by chance.

Both limits were chosen on CIFAR-10: of the test images whose most alike training image is within
both, all had its class and showed the same picture, recoloured, shifted or cropped a little; from
12 bits on, or below a correlation of 0.88, some did not. Of all 1,216 pairs among its 60,000 images
2 are of different classes, and show different things.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np
import numpy.typing as npt

RADIUS = 11
"""Most bits that the hashes of a candidate pair differ in."""
LEAST_CORRELATION = 0.9
"""Least correlation of the grey thumbnails of a pair that counts as alike."""
ALIKE = (
    f"their perceptual hashes differ in at most {RADIUS} of 64 bits and their 16x16 grey "
    f"thumbnails correlate by at least {LEAST_CORRELATION}"
)
"""When two rows look alike, in words."""
MAX_COMPARISONS = 2 * 10**10
"""Hashes that are compared at most, some minutes of work. 100,000 natural images take 5 * 10**7, a
few seconds, and the number grows with the square of the rows."""
MAX_PAIRS = 10**6
"""Pairs that are kept at most, about 150 MB."""
_AT_ONCE = 2**21
_BANDS = 4
_BITS = 16

Ids = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Thumbs = npt.NDArray[np.uint8]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of rows that look alike, the most alike first."""

    first: Ids
    """[P] the smaller place of each pair."""
    second: Ids
    correlation: npt.NDArray[np.float32]
    """[P] of the thumbnails."""
    complete: bool
    """False where the search was cut short, because too many rows look alike."""


def near_pairs(
    look: Hashes,
    thumb: Thumbs,
    *,
    radius: int = RADIUS,
    least_correlation: float = LEAST_CORRELATION,
) -> Pairs:
    """Find the pairs of rows that look alike.

    Args:
        look: [N] perceptual hashes.
        thumb: [N, H, W] thumbnails, none of them constant.
        radius: most bits that two hashes may differ in, at most 11.
        least_correlation: least correlation of two thumbnails.
    """
    flat = _standardised(thumb)
    found: dict[int, float] = {}
    compared, complete = 0, True
    for left, right in _meetings(look):
        compared += len(left)
        close = np.bitwise_count(look[left] ^ look[right]) <= radius
        left, right = left[close], right[close]
        alike = _correlations(flat, left, right)
        keys = np.minimum(left, right) * len(look) + np.maximum(left, right)
        kept = alike >= least_correlation
        found.update(zip(keys[kept].tolist(), alike[kept].tolist(), strict=True))
        if compared > MAX_COMPARISONS or len(found) > MAX_PAIRS:
            complete = False
            break
    return _sorted_pairs(found, len(look), complete=complete)


def cut_short(pairs: Pairs) -> list[str]:
    """Return what a finding that counts such pairs must say of the search, if anything."""
    return [] if pairs.complete else ["the search was cut short: there are more"]


def _sorted_pairs(found: dict[int, float], count: int, *, complete: bool) -> Pairs:
    keys = np.fromiter(found.keys(), dtype=np.int64, count=len(found))
    alike = np.fromiter(found.values(), dtype=np.float32, count=len(found))
    order = np.lexsort((keys, -alike))
    first, second = np.divmod(keys[order], max(1, count))
    return Pairs(first=first, second=second, correlation=alike[order], complete=complete)


def _standardised(thumb: Thumbs) -> npt.NDArray[np.float16]:
    """Return thumbnails of mean 0 and length 1; half precision keeps them in 512 bytes a row."""
    flat = np.empty((len(thumb), thumb[0].size if len(thumb) else 1), dtype=np.float16)
    for start in range(0, len(thumb), 8192):
        part = thumb[start : start + 8192].reshape(-1, flat.shape[1]).astype(np.float32)
        part -= part.mean(axis=1, keepdims=True)
        flat[start : start + 8192] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return flat


def _correlations(flat: npt.NDArray[np.float16], left: Ids, right: Ids) -> npt.NDArray[np.float32]:
    result = np.empty(len(left), dtype=np.float32)
    for start in range(0, len(left), 16384):
        span = slice(start, start + 16384)
        ours = flat[left[span]].astype(np.float32)
        theirs = flat[right[span]].astype(np.float32)
        result[span] = np.einsum("ij,ij->i", ours, theirs)
    return result


def _meetings(look: Hashes) -> Iterator[tuple[Ids, Ids]]:
    """Give all pairs with a band at most two bits apart, in lots; a pair may come again."""
    bands = [_Band(look, band) for band in range(_BANDS)]
    for band in bands:
        yield from band.same()
    single = [1 << bit for bit in range(_BITS)]
    for mask in (*single, *(sum(two) for two in combinations(single, 2))):
        for band in bands:
            yield from band.apart(mask)


@final
class _Band:
    """Rows by 16 bits of their hash."""

    def __init__(self, look: Hashes, band: int) -> None:
        keys = ((look >> np.uint64(_BITS * band)) & np.uint64(2**_BITS - 1)).astype(np.int64)
        self._rows = np.argsort(keys, kind="stable")
        self._keys = keys[self._rows]
        self._starts = np.searchsorted(self._keys, np.arange(2**_BITS + 1))

    def same(self) -> Iterator[tuple[Ids, Ids]]:
        """Give the pairs of rows with equal bits."""
        places = np.arange(len(self._rows))
        return self._expand(places, places + 1, self._starts[self._keys + 1])

    def apart(self, mask: int) -> Iterator[tuple[Ids, Ids]]:
        """Give the pairs of rows that differ in the bits of `mask` and no other."""
        highest = 1 << (mask.bit_length() - 1)
        places = np.flatnonzero((self._keys & highest) == 0)
        other = self._keys[places] ^ mask
        return self._expand(places, self._starts[other], self._starts[other + 1])

    def _expand(self, places: Ids, starts: Ids, stops: Ids) -> Iterator[tuple[Ids, Ids]]:
        """Pair each of `places` with every place from its start to its stop."""
        counts = stops - starts
        meets = counts > 0
        places, starts, counts = places[meets], starts[meets], counts[meets]
        ends = np.cumsum(counts)
        begin = 0
        while begin < len(places):
            done = ends[begin - 1] if begin else 0
            stop = max(begin + 1, int(np.searchsorted(ends, done + _AT_ONCE, side="right")))
            span = slice(begin, stop)
            number = counts[span]
            left = np.repeat(places[span], number)
            offsets = np.arange(len(left)) - np.repeat(ends[span] - number - done, number)
            right = np.repeat(starts[span], number) + offsets
            yield self._rows[left], self._rows[right]
            begin = stop
