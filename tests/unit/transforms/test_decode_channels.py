"""Images of 1, 4 and n channels: the same bytes whichever decoder makes them."""

import io

import numpy as np
import pytest
from PIL import Image

from rayft.data.predict_rows import Decoding
from rayft.spec.data import ResizeMode
from rayft.transforms.decode import Pixels, Unreadable, decode_image, decode_verified, fit_array
from rayft.transforms.decode_batch import decode_batch

NOISE = np.random.Generator(np.random.Philox(3)).integers(0, 256, (19, 24, 4), np.uint8)
IMAGES = {
    "grey": Image.fromarray(NOISE[..., 0]),
    "grey and opacity": Image.fromarray(NOISE[..., :2], "LA"),
    "one bit": Image.fromarray(NOISE[..., 0]).convert("1"),
    "16 bits": Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257),
    "RGB": Image.fromarray(NOISE[..., :3]),
    "RGBA": Image.fromarray(NOISE),
    "palette": Image.fromarray(NOISE[..., :3]).quantize(16),
    "CMYK": Image.fromarray(NOISE[..., :3]).convert("CMYK"),
}


def file_of(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "TIFF" if image.mode == "CMYK" else "PNG")
    return file.getvalue()


def decoded(content: bytes, channels: int, *, size: int = 8, resize: ResizeMode = "crop") -> Pixels:
    pixels = decode_image(content, size=size, resize=resize, channels=channels)
    assert not isinstance(pixels, Unreadable), pixels
    assert pixels.shape == (size, size, channels)
    assert pixels.dtype == np.uint8
    return pixels


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", IMAGES)
def test_every_decoder_gives_the_same_bytes(name: str, channels: int, resize: ResizeMode) -> None:
    content = file_of(IMAGES[name])
    decoding = Decoding(image_size=8, stored_size=8, resize=resize, channels=channels)
    predicted = np.zeros((1, 8, 8, channels), np.uint8)

    pixels = decoded(content, channels, resize=resize)

    verified = decode_verified(content, size=8, resize=resize, channels=channels)
    batch = decode_batch([content] * 3, size=8, resize=resize, threads=2, channels=channels)
    assert np.array_equal(pixels, verified)
    assert all(np.array_equal(pixels, each) for each in batch)
    assert decoding.decode([content], predicted) == [None]
    assert np.array_equal(pixels, predicted[0])


@pytest.mark.parametrize("name", IMAGES)
def test_one_channel_is_the_luminance_of_the_image_in_rgb(name: str) -> None:
    image = IMAGES[name]
    size = max(image.size)

    grey = decoded(file_of(image), 1, size=size, resize="pad")[..., 0]

    in_rgb = Image.fromarray(decoded(file_of(image), 3, size=size, resize="pad"))
    assert np.array_equal(grey[2:21], np.asarray(in_rgb.convert("L"))[2:21])


def test_three_channels_of_a_grey_image_are_alike_and_its_one_channel() -> None:
    content = file_of(IMAGES["grey"])

    assert (decoded(content, 3) == decoded(content, 1)).all()


def test_an_opaque_image_has_full_opacity_and_the_colours_of_rgb() -> None:
    for name in ("grey", "RGB", "palette", "16 bits"):
        content = file_of(IMAGES[name])
        pixels = decoded(content, 4)

        assert (pixels[..., 3] == 255).all(), name
        assert np.array_equal(pixels[..., :3], decoded(content, 3)), name


def test_transparent_pixels_keep_their_colour_beside_their_opacity() -> None:
    image = Image.new("RGBA", (8, 8), (10, 200, 30, 0))

    assert (decoded(file_of(image), 4) == (10, 200, 30, 0)).all()
    assert (decoded(file_of(image), 3) == 255).all()


def test_bands_are_resized_each_by_itself() -> None:
    """Pillow weighs colours by the opacity, and a fourth band need not be one."""
    pixels = decoded(file_of(IMAGES["RGBA"]), 4)

    for band in range(4):
        alone = fit_array(NOISE[..., band], size=8, resize="crop", channels=1)
        assert np.array_equal(pixels[..., band], alone[..., 0])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("given", [1, 3, 4])
def test_an_array_becomes_what_a_file_of_it_does(given: int, channels: int) -> None:
    array = NOISE[..., :given]
    file = file_of(Image.fromarray(array[..., 0] if given == 1 else array))

    pixels = fit_array(array, size=8, resize="crop", channels=channels)

    assert np.array_equal(pixels, decoded(file, channels))


@pytest.mark.parametrize("channels", [2, 5, 7, 64])
@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_an_array_of_n_channels_keeps_them(channels: int, resize: ResizeMode) -> None:
    array = np.random.default_rng(1).integers(0, 256, (12, 9, channels), np.uint8)

    pixels = fit_array(array, size=6, resize=resize, channels=channels)

    assert pixels.shape == (6, 6, channels)
    for band in range(channels):
        alone = fit_array(array[..., band], size=6, resize=resize, channels=1)
        assert np.array_equal(pixels[..., band], alone[..., 0])


def test_an_array_of_the_right_size_is_taken_as_it_is() -> None:
    array = np.random.default_rng(1).integers(0, 256, (6, 6, 5), np.uint8)

    assert np.array_equal(fit_array(array, size=6, resize="crop", channels=5), array)


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 1), (6, 6, 3), (6, 6, 4), (6, 6, 6), (6,)])
def test_an_array_of_other_channels_is_refused(shape: tuple[int, ...]) -> None:
    found = fit_array(np.zeros(shape, np.uint8), size=6, resize="crop", channels=5)

    assert isinstance(found, Unreadable)
    assert "expected HxWx5, since data.channels is 5" in found.reason


def test_an_array_of_five_is_neither_grey_nor_rgb() -> None:
    for channels in (1, 3, 4):
        array = np.zeros((6, 6, 5), np.uint8)
        found = fit_array(array, size=6, resize="crop", channels=channels)

        assert isinstance(found, Unreadable)
        assert "6x6x5; expected HxW or HxWxC with C = 1, 3 or 4" in found.reason


@pytest.mark.parametrize("channels", [2, 5])
def test_a_file_does_not_hold_other_channels(channels: int) -> None:
    found = decode_image(file_of(IMAGES["RGB"]), size=8, resize="crop", channels=channels)

    assert isinstance(found, Unreadable)
    assert found.reason == f"image files hold 1, 3 or 4 channels, and {channels} are asked for"
