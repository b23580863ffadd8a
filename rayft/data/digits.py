"""Scikit-learn's handwritten digits as rows: a dataset that needs no download.

In a spec: `train: {kind: python, function: "rayft.data.digits:rows"}`.
"""

from collections.abc import Iterator

import numpy as np

from rayft.errors import DataError, Problem

BRIGHTEST = 16
"""Pixels of the dataset go from 0 to this value."""


def rows() -> Iterator[dict[str, object]]:
    """Yield 1,797 grey images of 8x8 pixels with the labels "0" to "9".

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        what = "the digits come with scikit-learn, which is not installed"
        fix = 'run `pip install "rayft[demo]"`'
        raise DataError(Problem("rayft.data.digits:rows", what, fix)) from error
    digits = load_digits()
    images = np.rint(digits.images * (255 / BRIGHTEST)).astype(np.uint8)
    for image, label in zip(images, digits.target, strict=True):
        yield {"image": image, "label": str(label)}
