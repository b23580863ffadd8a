"""Decoding rows to predict: the pixels that evaluation sees, and a reason for each bad row."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rayft.data.predict_rows import Decoding
from rayft.spec.data import ResizeMode
from rayft.transforms.augment import center_crop
from rayft.transforms.decode import Unreadable, decode_image
from tests.unit.conftest import make_image_file


def empty(count: int, size: int) -> np.ndarray:
    return np.zeros((count, size, size, 3), np.uint8)


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("stored_size", [16, 19])
def test_pixels_are_those_of_a_row_store(resize: ResizeMode, stored_size: int) -> None:
    files = [make_image_file(n, size=(30 + n, 25), kind="JPEG") for n in range(4)]
    images = empty(5, 16)

    errors = Decoding(image_size=16, stored_size=stored_size, resize=resize).decode(files, images)

    stored = np.stack([decode_image(f, size=stored_size, resize=resize) for f in files])
    assert errors == [None] * 4
    assert np.array_equal(images[:4], center_crop(stored, 16))
    assert not images[4].any()


def test_bad_rows_have_a_reason_and_leave_their_slot(recwarn: pytest.WarningsRecorder) -> None:
    rows = [make_image_file(0), b"", b"nonsense", Unreadable("it is gone"), make_image_file(1)]
    images = empty(5, 8)

    errors = Decoding(image_size=8, stored_size=8, resize="crop").decode(rows, images)

    assert [error is None for error in errors] == [True, False, False, False, True]
    assert errors[1] == "the file is empty"
    assert errors[3] == "it is gone"
    assert [bool(image.any()) for image in images] == [True, False, False, False, True]


def test_reasons_in_many_threads_leave_the_filters_of_warnings_alone() -> None:
    before = list(warnings.filters)
    decoding = Decoding(image_size=8, stored_size=8, resize="crop")
    rows = [b"nonsense", make_image_file(0)] * 10

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: decoding.decode(rows, empty(20, 8)), range(20)))

    assert all([error is None for error in errors] == [False, True] * 10 for errors in found)
    assert warnings.filters == before
