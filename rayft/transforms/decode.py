"""One image file to one stored array: verify, decode, orient, resize.

A bad image is a value here, not an exception: `decode_image` returns the reason, and the row
is put aside. What a file may do to us is bounded before its pixels are touched: only the
formats named below are tried, and the size in the header is checked first.
"""

import io
import warnings
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from rayft.spec.data import FILE_CHANNELS, RGB, ResizeMode

Pixels = npt.NDArray[np.uint8]

DECODER_VERSION = 1
"""Raised whenever the same file would give other pixels; part of every store's key."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What Pillow may try. Its other decoders stay shut: each one is a way in."""

MAX_PIXELS = 50_000_000

ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that cannot be had."""

    reason: str


def decode_image(
    content: bytes, *, size: int, resize: ResizeMode, channels: int = RGB
) -> Pixels | Unreadable:
    """Decode an image file to the array that is stored.

    Args:
        content: the bytes of the file; its name does not matter.
        size: height and width of the result in pixels.
        resize: how the image becomes square; see `resize_to_square`.
        channels: 1 for the luminance, 3 for RGB, 4 for RGBA, whatever the file holds.

    Returns:
        [size, size, channels], or why the image cannot be read.
    """
    if not content:
        return Unreadable("the file is empty")
    if channels not in FILE_CHANNELS:
        return Unreadable(f"image files hold 1, 3 or 4 channels, and {channels} are asked for")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    return _too_large(image.width, image.height)
                return _decode(image, size=size, resize=resize, channels=channels)
    except Exception as error:  # noqa: BLE001  hostile bytes make decoders raise anything at all
        return Unreadable(_reason(error))


def decode_verified(
    content: bytes | memoryview, *, size: int, resize: ResizeMode, channels: int = RGB
) -> Pixels:
    """Decode a file that `decode_image` has accepted before: the same pixels, without its guards.

    They cost a tenth of the time, and silencing warnings is not safe in several threads.

    Args:
        content: the bytes of the file.
        size: height and width of the result in pixels.
        resize: how the image becomes square.
        channels: as there.

    Returns:
        [size, size, channels].

    Raises:
        Exception: anything, warnings turned into errors included; `decode_image` knows better.
    """
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_too_large(image.width, image.height).reason)
    return _decode(image, size=size, resize=resize, channels=channels)


def fit_array(
    array: npt.NDArray[np.uint8], *, size: int, resize: ResizeMode, channels: int = RGB
) -> Pixels | Unreadable:
    """Turn an array of pixels to the array that is stored.

    Args:
        array: [H, W] or [H, W, C] uint8; C is `channels`, and such an array is taken as it is, or
            1 (grey), 3 (RGB) or 4 (RGBA), which become 1, 3 or 4 channels as those of files do.
        size: height and width of the result in pixels.
        resize: how the image becomes square.
        channels: those of the result.

    Returns:
        [size, size, channels], or why the array is no such image.
    """
    shape = "x".join(map(str, array.shape))
    if array.dtype != np.uint8:
        return Unreadable(f"the array is {array.dtype}; expected uint8")
    given = array.shape[2] if array.ndim == 3 else 1
    fits = given == channels or (given in FILE_CHANNELS and channels in FILE_CHANNELS)
    if array.ndim not in (2, 3) or not fits:
        return Unreadable(f"the array is {shape}; expected {_shapes_for(channels)}")
    if 0 in array.shape:
        return Unreadable(f"the array is {shape} and has no pixel")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        return _too_large(array.shape[1], array.shape[0])
    if given == channels and channels not in (1, RGB):
        return _resize_bands(array, size=size, resize=resize)
    grey = array[:, :, 0] if array.ndim == 3 and given == 1 else array
    image = Image.fromarray(np.ascontiguousarray(grey))
    return _to_pixels(image, size=size, resize=resize, channels=channels)


def in_channels(image: Image.Image, channels: int) -> Image.Image:
    """Return the image with 1 channel (`L`, the luminance), 3 (RGB) or 4 (RGBA).

    The luminance is that of `to_rgb`, by ITU-R 601-2. Where a fourth channel is asked for,
    transparent pixels keep their colour, and an image without transparency is opaque, 255.

    Raises:
        ValueError: the pixels have no known range; see `to_rgb`.
    """
    if channels == RGB:
        return to_rgb(image)
    if channels == 1:
        is_grey = image.mode == "L" and "transparency" not in image.info
        return image if is_grey else to_rgb(image).convert("L")
    is_wide = image.mode in {"F", "I"} or image.mode.startswith("I;16")
    return (to_rgb(image) if is_wide else image).convert("RGBA")


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB.

    Sixteen-bit grey is scaled to 8 bits (Pillow's own conversion clips it to white), and
    transparent pixels are laid on white, the usual page behind a logo or a drawing.

    Raises:
        ValueError: the pixels are floating-point or wider than 16 bits, and have no known range.
    """
    mode = image.mode
    if mode == "RGB":
        return image
    if mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if mode == "I" or mode.startswith("I;16"):
        return _rescale_wide_grey(image)
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        page = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(page, layer).convert("RGB")
    return image.convert("RGB")


def resize_to_square(image: Image.Image, *, size: int, resize: ResizeMode) -> Image.Image:
    """Make an RGB or grey image square, with a bilinear filter that averages when it shrinks.

    `crop` keeps the centre square, `stretch` ignores the aspect ratio, `pad` keeps the whole
    image on black.
    """
    width, height = image.size
    bilinear = Image.Resampling.BILINEAR
    match resize:
        case "crop":
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            return image.resize((size, size), bilinear, box=(left, top, left + side, top + side))
        case "stretch":
            return image.resize((size, size), bilinear)
        case "pad":
            scale = size / max(width, height)
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
            square = Image.new(image.mode, (size, size))
            place = ((size - inner[0]) // 2, (size - inner[1]) // 2)
            square.paste(image.resize(inner, bilinear), place)
            return square
        case _:
            assert_never(resize)


def _decode(image: Image.Image, *, size: int, resize: ResizeMode, channels: int) -> Pixels:
    image.load()
    return _to_pixels(_upright(image), size=size, resize=resize, channels=channels)


def _to_pixels(image: Image.Image, *, size: int, resize: ResizeMode, channels: int) -> Pixels:
    whole = in_channels(image, channels)
    if channels not in (1, RGB):
        return _resize_bands(np.asarray(whole), size=size, resize=resize)
    if whole.size != (size, size):
        whole = resize_to_square(whole, size=size, resize=resize)
    return np.asarray(whole, dtype=np.uint8).reshape(size, size, channels)


def _resize_bands(array: npt.NDArray[np.uint8], *, size: int, resize: ResizeMode) -> Pixels:
    """Resize each band by itself: Pillow would weigh the first three by the fourth."""
    if array.shape[:2] == (size, size):
        return np.ascontiguousarray(array)
    bands = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(array, 2, 0)]
    squares = [np.asarray(resize_to_square(b, size=size, resize=resize)) for b in bands]
    return np.stack(squares, axis=2)


def _shapes_for(channels: int) -> str:
    if channels in FILE_CHANNELS:
        return "HxW or HxWxC with C = 1, 3 or 4"
    return f"HxWx{channels}, since data.channels is {channels}"


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001  damaged EXIF says nothing about the pixels
        return image
    return image if turn is None else image.transpose(turn)


def _rescale_wide_grey(image: Image.Image) -> Image.Image:
    wide = np.asarray(image).astype(np.int64)
    if wide.min() < 0 or wide.max() > 0xFFFF:
        raise ValueError("32-bit grey pixels have no known range")
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")


def _too_large(width: int, height: int) -> Unreadable:
    return Unreadable(f"it has {width}x{height} pixels; at most {MAX_PIXELS:,} are read")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image in a known format ({', '.join(FORMATS)}), or its start is damaged"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has far more than {MAX_PIXELS:,} pixels, the most that are read"
    return f"it cannot be decoded: {str(error) or type(error).__name__}"
