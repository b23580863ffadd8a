"""Decoding a batch gives what decoding its images one by one gives, or says which is damaged."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from rayft.spec.data import ResizeMode
from rayft.transforms.decode import ORIENTATION_TAG, Pixels, Unreadable, decode_image
from rayft.transforms.decode_batch import EncodedImages, decode_batch

SIZE = 40


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _scene(width: int, height: int) -> Image.Image:
    """Edges, ramps and noise: what compression and resizing show in."""
    rng = np.random.default_rng(width * height)
    small = Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noise = rng.integers(-20, 21, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def _oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return _saved(_scene(50, 40), "JPEG", exif=exif)


def _files() -> Iterator[bytes]:
    same, wide, tall = _scene(SIZE, SIZE), _scene(91, 53), _scene(37, 120)
    for image in (same, wide, tall):
        for subsampling in (0, 1, 2):
            yield _saved(image, "JPEG", quality=90, subsampling=subsampling)
        yield _saved(image, "JPEG", quality=70, progressive=True)
        yield _saved(image.convert("L"), "JPEG")
        yield _saved(image.convert("CMYK"), "JPEG")
        yield _saved(image, "PNG")
        yield _saved(image.convert("RGBA"), "PNG")
        yield _saved(image.quantize(16), "PNG", transparency=bytes(range(0, 256, 16)))
        yield _saved(image.convert("LA"), "PNG")
        yield _saved(image, "WEBP", quality=80)
        yield _saved(image, "BMP")
        yield _saved(image.quantize(32), "GIF")
        yield _saved(image, "TIFF")
    yield from map(_oriented, range(1, 9))
    yield _saved(same, "JPEG", exif=b"Exif\0\0garbage")
    yield _saved(same, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")


FILES = list(_files())


def _one_by_one(contents: list[bytes], resize: ResizeMode = "crop") -> list[Pixels]:
    found = [decode_image(content, size=SIZE, resize=resize) for content in contents]
    return [pixels for pixels in found if not isinstance(pixels, Unreadable)]


@pytest.fixture
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images, but as many blocks as large ones would make."""
    monkeypatch.setattr("rayft.transforms.blocks._BYTES_PER_BLOCK", 3 * SIZE * SIZE * 4)


@pytest.mark.usefixtures("many_blocks")
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_every_kind_of_file_has_the_pixels_of_decode_image(
    threads: int, resize: ResizeMode
) -> None:
    batch = decode_batch(FILES, size=SIZE, resize=resize, threads=threads)

    expected = _one_by_one(FILES, resize)
    assert len(expected) == len(FILES)
    assert batch.dtype == np.uint8
    assert np.array_equal(batch, np.stack(expected))


def test_files_may_be_views_of_a_larger_buffer() -> None:
    buffer = memoryview(b"".join(FILES))
    ends = np.cumsum([len(content) for content in FILES]).tolist()
    views = [buffer[end - len(content) : end] for content, end in zip(FILES, ends, strict=True)]

    batch = decode_batch(views, size=SIZE, resize="crop", threads=2)

    assert np.array_equal(batch, np.stack(_one_by_one(FILES)))


def test_no_files_are_an_empty_batch() -> None:
    assert decode_batch([], size=SIZE, resize="crop", threads=2).shape == (0, SIZE, SIZE, 3)


def test_a_slice_is_decoded_by_itself() -> None:
    images = EncodedImages(contents=FILES, size=SIZE, resize="crop")

    assert np.array_equal(images(slice(7, 12)), np.stack(_one_by_one(FILES[7:12])))


DAMAGED = {
    "cut": (FILES[0][:400], "cannot be decoded"),
    "empty": (b"", "the file is empty"),
    "not an image": (b"<!DOCTYPE html>", "no image in a known format"),
    "more pixels than are read": (
        _saved(Image.new("1", (8000, 7000)), "PNG"),
        "8000x7000 pixels",
    ),
}


@pytest.mark.usefixtures("many_blocks")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_by_its_place(name: str, threads: int) -> None:
    content, reason = DAMAGED[name]
    contents = [*FILES[:9], content, *FILES[9:]]

    with pytest.raises(ValueError, match=f"image 9 of the batch is damaged: .*{reason}"):
        decode_batch(contents, size=SIZE, resize="crop", threads=threads)


def test_what_is_damaged_is_what_decode_image_refuses() -> None:
    rng = np.random.default_rng(0)
    for content in FILES * 3:
        broken = bytearray(content)
        broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        expected = decode_image(bytes(broken), size=SIZE, resize="crop")
        if isinstance(expected, Unreadable):
            with pytest.raises(ValueError, match="image 0 of the batch is damaged"):
                decode_batch([broken], size=SIZE, resize="crop", threads=1)
        else:
            batch = decode_batch([broken], size=SIZE, resize="crop", threads=1)
            assert np.array_equal(batch[0], expected)


@pytest.mark.usefixtures("many_blocks")
def test_threads_do_not_change_the_filters_of_warnings_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = threading.Barrier(2, timeout=0.5)
    met = False

    def guarded(
        content: bytes, *, size: int, resize: ResizeMode, channels: int
    ) -> Pixels | Unreadable:
        nonlocal met
        with suppress(threading.BrokenBarrierError):
            two.wait()
            met = True
        return decode_image(content, size=size, resize=resize, channels=channels)

    monkeypatch.setattr("rayft.transforms.decode_batch.decode_image", guarded)
    before = list(warnings.filters)

    with pytest.raises(ValueError, match="image 0 of the batch is damaged"):
        decode_batch([FILES[0][:400]] * 40, size=SIZE, resize="crop", threads=4)

    assert not met
    assert list(warnings.filters) == before
