"""Every file that people really have in their folders, good and bad."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from rayft.transforms.decode import (
    FORMATS,
    MAX_PIXELS,
    ORIENTATION_TAG,
    Unreadable,
    decode_image,
    fit_array,
)

ImageFile = Callable[..., bytes]


def _saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _decoded(content: bytes, *, size: int = 8, resize: str = "stretch") -> npt.NDArray[np.uint8]:
    pixels = decode_image(content, size=size, resize=resize)
    assert not isinstance(pixels, Unreadable), pixels
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    return pixels


def _header_only_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size: what a decompression bomb looks like."""
    chunks = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 64)
    for name, data in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + name + data
        chunks += struct.pack(">I", zlib.crc32(name + data))
    return chunks


def _gradient_jpeg() -> bytes:
    ramp = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    return _saved(Image.fromarray(ramp), "JPEG")


BAD_FILES = {
    "zero bytes": (b"", "empty"),
    "truncated JPEG": (_gradient_jpeg()[:500], "cannot be decoded"),
    "JPEG cut in its header": (_gradient_jpeg()[:12], "cannot be decoded|no image"),
    "HTML named .jpg": (b"<!DOCTYPE html><html>404</html>", "no image in a known format"),
    "noise": (bytes(range(256)) * 8, "no image in a known format"),
    "PNG with a broken chunk": (
        _saved(Image.new("RGB", (8, 8)))[:40] + b"\0" * 30,
        "start is damaged",
    ),
    "10000x10000 in a few bytes": (_header_only_png(10_000, 10_000), "pixels"),
    "20000x20000 in a few bytes": (_header_only_png(20_000, 20_000), "pixels"),
    "7100x7100, just above the cap": (_header_only_png(7_100, 7_100), "7100x7100"),
    "floating-point TIFF": (_saved(Image.new("F", (4, 4), 0.5), "TIFF"), "floating-point"),
    "32-bit TIFF": (_saved(Image.new("I", (4, 4), 100_000), "TIFF"), "no known range"),
    "a format that is not allowed": (_saved(Image.new("RGB", (4, 4)), "PPM"), "no image"),
    "a PDF": (b"%PDF-1.4\n%%EOF", "no image"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_a_bad_file_gives_a_reason_and_never_raises(name: str, resize: str) -> None:
    content, reason = BAD_FILES[name]

    result = decode_image(content, size=8, resize=resize)

    assert isinstance(result, Unreadable)
    assert any(part in result.reason for part in reason.split("|")), result.reason


@pytest.mark.parametrize("cut", range(0, 700, 23))
def test_a_file_cut_anywhere_never_raises(cut: int) -> None:
    for content in (_gradient_jpeg()[:cut], _saved(Image.new("P", (9, 9)), "GIF")[:cut]):
        decode_image(content, size=8, resize="crop")


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_flipped_bits_never_raises(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for kind in FORMATS:
        content = bytearray(_saved(Image.new("RGB", (20, 20), "teal"), kind))
        for place in rng.integers(0, len(content), 3):
            content[place] ^= 1 << rng.integers(8)
        decode_image(bytes(content), size=8, resize="crop")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_allowed_format_is_read_whatever_its_name(kind: str) -> None:
    content = _saved(Image.new("RGB", (20, 20), (250, 20, 20)), kind)

    pixels = _decoded(content)

    assert np.abs(pixels.reshape(-1, 3).mean(0) - (250, 20, 20)).max() < 12


@pytest.mark.parametrize(
    ("image", "color"),
    [
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("LA", (4, 4), (77, 255)), (77, 77, 77)),
        (Image.new("LA", (4, 4), (77, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("RGB", (4, 4), (10, 20, 30)).quantize(4), (10, 20, 30)),
        (Image.new("I;16", (4, 4), 77 * 257), (77, 77, 77)),
        (Image.new("I;16", (4, 4), 65535), (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value[0]),
)
def test_every_pixel_mode_becomes_rgb(image: Image.Image, color: tuple[int, ...]) -> None:
    pixels = _decoded(_saved(image))

    assert np.array_equal(pixels, np.broadcast_to(np.uint8(color), pixels.shape))


def test_a_palette_with_transparency_is_laid_on_white() -> None:
    image = Image.new("P", (4, 4), 3)
    image.putpalette([0, 0, 0] * 3 + [200, 0, 0])

    clear = _decoded(_saved(image, transparency=3))
    solid = _decoded(_saved(image))

    assert (clear == 255).all()
    assert solid[0, 0].tolist() == [200, 0, 0]


def test_sixteen_bit_grey_is_rescaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)

    pixels = _decoded(_saved(Image.fromarray(ramp)))

    assert np.array_equal(pixels[:, :, 0], np.rint(ramp / 257).astype(np.uint8))


def test_cmyk_becomes_rgb() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))

    pixels = _decoded(_saved(red, "JPEG"))

    assert np.abs(pixels.reshape(-1, 3).mean(0) - (255, 0, 0)).max() < 12


def test_the_first_frame_of_an_animation_is_the_image() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]

    pixels = _decoded(_saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))

    assert pixels[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4, :4] = 255
    upright[0, 7] = 128
    image = Image.fromarray(upright)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = image if orientation == 1 else image.transpose(undo[orientation])
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation

    pixels = _decoded(_saved(stored, exif=exif))

    assert np.array_equal(pixels, upright)


def test_damaged_exif_costs_nothing() -> None:
    content = _saved(Image.new("RGB", (8, 8), "teal"), "JPEG", exif=b"Exif\0\0garbage")

    assert _decoded(content).mean() > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_extreme_shapes_are_still_images(size: tuple[int, int], resize: str) -> None:
    _decoded(_saved(Image.new("RGB", size, "teal")), resize=resize)


def test_crop_keeps_the_centre() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255

    assert (_decoded(_saved(Image.fromarray(wide)), size=10, resize="crop") == 255).all()


def test_pad_keeps_everything_on_black() -> None:
    wide = Image.new("RGB", (20, 10), "white")

    pixels = _decoded(_saved(wide), size=20, resize="pad")

    assert (pixels[5:15] == 255).all()
    assert not pixels[:5].any()
    assert not pixels[15:].any()


def test_shrinking_averages() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 255

    pixels = _decoded(_saved(Image.fromarray(stripes)), size=8)

    assert 110 < pixels.min() <= pixels.max() < 145


def test_an_image_of_the_stored_size_is_not_resampled(image_file: ImageFile) -> None:
    content = image_file(size=(8, 8))

    assert np.array_equal(_decoded(content), np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 3), (9, 9, 4)])
def test_arrays_are_images(shape: tuple[int, ...]) -> None:
    pixels = fit_array(np.full(shape, 255, np.uint8), size=8, resize="crop")

    assert not isinstance(pixels, Unreadable)
    assert (pixels == 255).all()


@pytest.mark.parametrize("shape", [(9,), (9, 9, 2), (0, 9), (9, 9, 3, 1)])
def test_other_arrays_are_refused_with_their_shape(shape: tuple[int, ...]) -> None:
    result = fit_array(np.zeros(shape, np.uint8), size=8, resize="crop")

    assert isinstance(result, Unreadable)
    assert "x".join(map(str, shape)) in result.reason


def test_the_pixel_cap_holds_for_arrays() -> None:
    huge = np.broadcast_to(np.uint8(0), (MAX_PIXELS + 1, 1))

    assert isinstance(fit_array(huge, size=8, resize="crop"), Unreadable)
