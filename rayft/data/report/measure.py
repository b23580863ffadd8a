"""What is measured of every image: brightness, contrast, sharpness, colour, and how it looks.

Each row is measured by itself, in numpy, in this process: no figure depends on its neighbours, on
the number of workers or on how rows are stored. About 300 bytes a row are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self, final

import numpy as np
import numpy.typing as npt

from rayft.feed.gather import gather_images
from rayft.spec.data import RGB
from rayft.store.rows import RowStore

PIXELS_AT_ONCE = 2**21
GRID = 32
"""Rows and columns of the reduced grey image that looks and shares are taken from."""
THUMB = 16
"""Rows and columns of the thumbnail that candidates are compared by."""

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_DARK, _LIGHT = 0.3, 0.95
"""Greys below and above which a pixel counts as dark and as light, white being 1."""

_LEAST_SIDE = 8
"""Pixels that bars leave of a side at least."""

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What was measured of N rows."""

    brightness: Floats
    """[N] mean grey, white being 1."""
    contrast: Floats
    """[N] standard deviation of the pixels in the channel where it is largest, white being 1."""
    dark: Floats
    """[N] share of the picture that is darker than 0.3."""
    light: Floats
    """[N] share of the picture that is lighter than 0.95."""
    sharpness: Floats
    """[N] variance of the Laplacian of the grey image at the stored size (Pech-Pacheco et al.
    2000), over the variance of its pixels: so a dark or pale picture does not count as blurred."""
    colour: Floats
    """[N, C] mean of each channel, white being 1."""
    look: npt.NDArray[np.uint64]
    """[N] perceptual hash."""
    thumb: npt.NDArray[np.uint8]
    """[N, 16, 16] grey."""

    def __len__(self) -> int:
        return len(self.look)

    def taken(self, places: npt.NDArray[np.int64]) -> Self:
        """Return the measures of the rows at `places`, in that order."""
        return replace(self, **{f.name: getattr(self, f.name)[places] for f in fields(self)})

    @classmethod
    def joined(cls, parts: list[Self], *, channels: int = RGB) -> Self:
        """Return the measures of several lots of rows as one; of no row without parts."""
        lots = parts or [measure_images(np.empty((0, 8, 8, channels), np.uint8))]
        names = [field.name for field in fields(cls)]
        return cls(**{n: np.concatenate([getattr(lot, n) for lot in lots]) for n in names})


def measure_rows(
    store: RowStore,
    row_ids: npt.NDArray[np.int64],
    *,
    threads: int,
    on_rows: Callable[[int], None],
) -> Measures:
    """Measure rows of a store, block by block.

    Args:
        store: the store.
        row_ids: [N] ids of valid rows.
        threads: threads that decode an encoded store; they change nothing.
        on_rows: called with the number of rows of each block as it is done.
    """
    step = max(1, PIXELS_AT_ONCE // store.stored_size**2)
    padded = store.manifest.resize == "pad"
    parts = []
    for start in range(0, len(row_ids), step):
        ids = row_ids[start : start + step]
        parts.append(measure_images(gather_images(store, ids, threads=threads), padded=padded))
        on_rows(len(ids))
    return Measures.joined(parts, channels=store.manifest.channels)


def measure_images(images: Images, *, padded: bool = False) -> Measures:
    """Measure a block of images [N, S, S, C].

    Brightness and looks are those of the first three channels as red, green and blue, or of the
    first alone where there are fewer; contrast and colour are of all.

    Args:
        images: the block.
        padded: whether the images were made square by black bars, which are no part of them.
    """
    if not padded or not len(images):
        return _measured(images)
    boxes, number = np.unique(_boxes(images), axis=0, return_inverse=True)
    members = [np.flatnonzero(number.reshape(-1) == box) for box in range(len(boxes))]
    parts = [
        _measured(images[rows, top:bottom, left:right])
        for (top, bottom, left, right), rows in zip(boxes.tolist(), members, strict=True)
    ]
    return Measures.joined(parts).taken(np.argsort(np.concatenate(members)))


def _boxes(images: Images) -> npt.NDArray[np.int64]:
    """Return [N, 4]: first and last row and column, each end exclusive, that bars leave.

    Bars are black, and lie above and below or on both sides of what reaches the other two edges.
    The second is as wide as the first or a pixel wider. What would leave less than 8 pixels is no
    bar.
    """
    size = images.shape[1]
    levels = images.max(axis=3)
    blank = np.stack(
        [
            [drawn.argmax(axis=1), drawn[:, ::-1].argmax(axis=1)]
            for drawn in (levels.max(axis=2) > 0, levels.max(axis=1) > 0)
        ]
    )
    first = blank.min(axis=1)
    second = np.minimum(blank[:, 1], first + 1) * (first > 0)
    fits = (size - first - second >= _LEAST_SIDE) & (first[::-1] == 0)
    first, second = first * fits, second * fits
    return np.stack([first[0], size - second[0], first[1], size - second[1]], axis=1)


def _measured(images: Images) -> Measures:
    pixels = images.astype(np.float32)
    grey = pixels[..., :RGB] @ _GREY if images.shape[3] >= RGB else pixels[..., 0]
    small = _reduced(grey)
    flat = pixels.reshape(len(images), -1, images.shape[3])
    return Measures(
        brightness=grey.mean(axis=(1, 2)) / 255,
        contrast=flat.std(axis=1).max(axis=1, initial=0) / 255,
        dark=(small < _DARK * 255).mean(axis=(1, 2), dtype=np.float32),
        light=(small > _LIGHT * 255).mean(axis=(1, 2), dtype=np.float32),
        # One squared level keeps the noise of blank images from looking sharp.
        sharpness=_laplacian(grey).var(axis=(1, 2)) / (grey.var(axis=(1, 2)) + 1),
        colour=flat.mean(axis=1) / 255,
        look=_look(small),
        thumb=_thumb(small),
    )


def _laplacian(grey: Floats) -> Floats:
    inner = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    laplacian: Floats = around - np.float32(4) * inner
    return laplacian


def _reduced(grey: Floats) -> Floats:
    """Return [N, 32, 32]: the mean of the area under each cell, for any size of image."""
    across: Floats = grey @ _area_weights(grey.shape[2]).T
    reduced: Floats = _area_weights(grey.shape[1]) @ across
    return reduced


def _area_weights(size: int) -> Floats:
    """Return [32, size]: how much of each pixel lies in each cell, the sum of a cell being 1."""
    cells, pixels = np.arange(GRID + 1) / GRID, np.arange(size + 1) / size
    ends = np.minimum(cells[1:, None], pixels[None, 1:])
    starts = np.maximum(cells[:-1, None], pixels[None, :-1])
    weights: Floats = (np.maximum(ends - starts, 0) * GRID).astype(np.float32)
    return weights


def _thumb(small: Floats) -> npt.NDArray[np.uint8]:
    step = GRID // THUMB
    cells = small.reshape(-1, THUMB, step, THUMB, step).mean(axis=(2, 4))
    thumbs: npt.NDArray[np.uint8] = np.rint(cells).clip(0, 255).astype(np.uint8)
    return thumbs


def _look(small: Floats) -> npt.NDArray[np.uint64]:
    """Return a perceptual hash [N]: which of the 64 lowest frequencies are above their median.

    Resizing, recompression and changes of brightness or contrast leave most bits as they are.
    The mean (frequency 0, 0) is left out: it says nothing about the picture.

    Source:
        Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions",
        section 3.2.1 (the DCT hash).
    """
    across, down = _FREQUENCIES
    found = (_COSINES @ small @ _COSINES.T)[:, down, across]
    bits = found > np.median(found, axis=1, keepdims=True)
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64).reshape(-1)


def _cosines(count: int) -> Floats:
    """Return [count, 32]: the first rows of the discrete cosine transform of type II."""
    middles = (np.arange(GRID) + 0.5) / GRID
    return np.cos(np.pi * np.arange(count)[:, None] * middles[None, :]).astype(np.float32)


def _lowest(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the `count` lowest pairs of frequencies, (0, 0) left out, across and down."""
    pairs = sorted(((a, d) for a in range(GRID) for d in range(GRID)), key=lambda p: (sum(p), p))
    across, down = np.array(pairs[1 : count + 1]).T
    return across, down


_FREQUENCIES = _lowest(64)
_COSINES = _cosines(int(max(axis.max() for axis in _FREQUENCIES)) + 1)
