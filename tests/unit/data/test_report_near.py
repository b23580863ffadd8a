"""The search for look-alikes misses nothing within the radius, and what is measured is right."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from rayft.data.report import near
from rayft.data.report.measure import measure_images
from rayft.data.report.near import Pairs, near_pairs

THUMBS = np.random.default_rng(7).integers(0, 256, (1, 16, 16), np.uint8)


def _same_thumbs(count: int) -> npt.NDArray[np.uint8]:
    return np.repeat(THUMBS, count, axis=0)


def _pairs(found: Pairs) -> set[tuple[int, int]]:
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def _crowded(count: int, seed: int) -> npt.NDArray[np.uint64]:
    """Hashes around a few centres, as those of natural images are."""
    generator = np.random.default_rng(seed)
    centres = generator.integers(0, 2**64, 6, np.uint64)
    hashes = centres[generator.integers(0, 6, count)]
    for _ in range(6):
        flips = np.left_shift(np.uint64(1), generator.integers(0, 64, count).astype(np.uint64))
        hashes ^= np.where(generator.random(count) < 0.7, flips, np.uint64(0))
    return hashes


@pytest.mark.parametrize("seed", range(3))
def test_every_pair_within_the_radius_is_found_and_no_other(seed: int) -> None:
    hashes = _crowded(400, seed)
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    first, second = np.nonzero(np.triu(distance <= near.RADIUS, 1))

    found = near_pairs(hashes, _same_thumbs(400))

    assert len(first) > 100
    assert _pairs(found) == set(zip(first.tolist(), second.tolist(), strict=True))
    assert found.complete


def test_lots_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = _crowded(300, 0)
    whole = near_pairs(hashes, _same_thumbs(300))

    monkeypatch.setattr(near, "_AT_ONCE", 50)

    assert _pairs(near_pairs(hashes, _same_thumbs(300))) == _pairs(whole)


def test_equal_hashes_of_different_pictures_are_no_pair() -> None:
    thumbs = np.concatenate([THUMBS, 255 - THUMBS, THUMBS // 2 + 40])

    found = near_pairs(np.zeros(3, np.uint64), thumbs)

    assert _pairs(found) == {(0, 2)}
    assert found.correlation[0] == pytest.approx(1, abs=0.01)


def test_a_search_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MAX_COMPARISONS", 10)

    assert not near_pairs(np.zeros(50, np.uint64), _same_thumbs(50)).complete


def test_no_rows_and_one_row_have_no_pairs() -> None:
    for count in (0, 1):
        assert not len(near_pairs(np.zeros(count, np.uint64), _same_thumbs(count)).first)


def picture(seed: int, size: int = 64) -> Image.Image:
    """Draw shapes on a ground: smooth enough to survive resizing, as photographs are."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), tuple(generator.integers(60, 200, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = generator.uniform(-0.2, 0.9, 2) * size
        w, h = generator.uniform(0.1, 0.5, 2) * size
        fill = tuple(generator.integers(0, 256, 3).tolist())
        shape = draw.ellipse if generator.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=fill)
    return image


def _stored(*images: Image.Image, size: int = 48) -> npt.NDArray[np.uint8]:
    return np.stack([np.asarray(i.resize((size, size), Image.Resampling.BILINEAR)) for i in images])


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def test_a_picture_keeps_its_look_when_it_is_resized_recompressed_or_brightened() -> None:
    originals = [picture(seed) for seed in range(40)]
    changed = [_jpeg(image.resize((40, 40)), 60) for image in originals]
    brighter = [image.point(lambda level: 30 + level * 0.8) for image in originals]
    measures = measure_images(_stored(*originals, *changed, *brighter))

    found = _pairs(near_pairs(measures.look, measures.thumb))

    assert {(n, n + 40) for n in range(40)} <= found
    assert {(n, n + 80) for n in range(40)} <= found
    assert {(n % 40, m % 40) for n, m in found} == {(n, n) for n in range(40)}


@pytest.mark.parametrize("size", [8, 31, 32, 48, 100])
def test_measures_of_known_pictures_at_any_size(size: int) -> None:
    half = np.zeros((size, size, 3), np.uint8)
    half[:, : size // 2] = 255
    red = np.zeros((size, size, 3), np.uint8)
    red[..., 0] = 255
    found = measure_images(np.stack([half, red, np.full_like(half, 250)]))

    white = (size // 2) / size
    assert found.brightness.tolist() == pytest.approx([white, 0.299, 250 / 255], abs=1e-4)
    assert found.contrast.tolist() == pytest.approx([np.sqrt(white * (1 - white)), 0, 0], abs=1e-4)
    assert found.colour[1].tolist() == pytest.approx([1, 0, 0])
    assert found.dark.tolist() == pytest.approx([1 - white, 1, 0], abs=0.04)
    assert found.light.tolist() == pytest.approx([white, 0, 1], abs=0.04)
    assert found.sharpness[0] > 0.05
    assert found.sharpness[1:].tolist() == pytest.approx([0, 0], abs=1e-3)


def test_bars_beside_a_picture_are_no_part_of_it() -> None:
    """Four pictures of three shapes, each made square by bars, are measured as if stretched."""
    kinds = [(48, 20), (48, 48), (21, 48), (48, 20)]
    pictures = [picture(seed).resize(kind) for seed, kind in enumerate(kinds)]
    padded = np.zeros((4, 48, 48, 3), np.uint8)
    for place, (image, (width, height)) in enumerate(zip(pictures, kinds, strict=True)):
        top, left = (48 - height) // 2, (48 - width) // 2
        padded[place, top : top + height, left : left + width] = np.asarray(image)

    found = measure_images(padded, padded=True)
    stretched = measure_images(_stored(*pictures))

    assert found.brightness == pytest.approx(stretched.brightness, abs=0.01)
    assert found.contrast == pytest.approx(stretched.contrast, abs=0.02)
    assert found.dark == pytest.approx(stretched.dark, abs=0.05)
    assert found.colour == pytest.approx(stretched.colour, abs=0.01)
    assert (np.bitwise_count(found.look ^ stretched.look) <= 8).all()
    assert measure_images(padded).brightness[0] < 0.6 * found.brightness[0]


def test_what_is_no_pair_of_bars_is_measured_whole() -> None:
    images = np.zeros((4, 48, 48, 3), np.uint8)
    # Black; too thin; a square with a dark frame; black at one edge only.
    images[1, 22:26] = 200
    images[2, 15:33, 12:35] = 200
    images[3, :43] = 200

    found, whole = measure_images(images, padded=True), measure_images(images)

    assert np.array_equal(found.brightness, whole.brightness)
    assert np.array_equal(found.thumb, whole.thumb)


def test_a_row_is_measured_by_itself() -> None:
    images = _stored(*(picture(seed) for seed in range(9)))
    whole = measure_images(images)

    for place in range(9):
        alone = measure_images(images[place : place + 1])
        assert alone.look[0] == whole.look[place]
        assert np.array_equal(alone.thumb[0], whole.thumb[place])
        assert alone.sharpness[0] == pytest.approx(whole.sharpness[place], rel=1e-4)
