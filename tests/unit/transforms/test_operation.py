import numpy as np
import pytest

from rayft.transforms.operation import row_blocks


@pytest.mark.parametrize("size", [8, 96, 256])
def test_blocks_cover_each_row_once_in_order_however_large_an_image(size: int) -> None:
    images = np.zeros((90, size, size, 3), np.uint8)

    rows = [row for block in row_blocks(images) for row in range(90)[block]]

    assert rows == list(range(90))
