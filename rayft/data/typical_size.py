"""How large the images of a source are, told from a sample, and what size to train at."""

import io
from statistics import median

from PIL import Image

from rayft.data.listing import Listing
from rayft.data.raw import Raw
from rayft.transforms.decode import FORMATS, Unreadable

BLOCKS_SAMPLED = 8
ROWS_PER_BLOCK = 25
SMALLEST_SUGGESTION, LARGEST_SUGGESTION = 96, 224


def typical_size(listing: Listing) -> tuple[int, int] | None:
    """Return the median width and height in pixels of a sample of a source's images.

    None where none of them could be opened.
    """
    # Few blocks of many rows: a single row of a parquet file costs as much as its neighbours.
    sizes = []
    step = max(ROWS_PER_BLOCK, -(-listing.num_rows // BLOCKS_SAMPLED))
    for start in range(0, listing.num_rows, step):
        stop = min(start + ROWS_PER_BLOCK, listing.num_rows)
        read = listing.reader.cut(start, stop).read()
        sizes += [size for raw in read if (size := _size_of(raw)) is not None]
    if not sizes:
        return None
    return round(median(w for w, _ in sizes)), round(median(h for _, h in sizes))


def _size_of(raw: Raw) -> tuple[int, int] | None:
    if isinstance(raw, Unreadable):
        return None
    if not isinstance(raw, bytes):
        return raw.shape[1], raw.shape[0]
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            return image.size
    except (OSError, Image.DecompressionBombError):
        return None


def suggest_size(size: tuple[int, int] | None) -> int:
    """Return what to set `data.image_size` to for images of a typical size."""
    if size is None:
        return LARGEST_SUGGESTION
    side = -(-min(size) // 32) * 32
    return min(max(side, SMALLEST_SUGGESTION), LARGEST_SUGGESTION)
