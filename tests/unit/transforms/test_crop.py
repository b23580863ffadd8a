from typing import Literal

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from rayft.transforms.crop import CropRandomly

SIZE = 12
IMAGES = np.random.default_rng(0).integers(0, 256, (200, SIZE, SIZE + 5, 3), dtype=np.uint8)
DRAWS = np.random.default_rng(1).random((200, 2))


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("padding", [1, 4, SIZE - 1])
def test_a_crop_has_the_bytes_of_torchvisions_pad_and_crop(
    mode: Literal["constant", "reflect"], padding: int
) -> None:
    cropped = CropRandomly(padding, mode)(IMAGES, DRAWS)

    for image, draw, result in zip(IMAGES, DRAWS, cropped, strict=True):
        top, left = np.floor(draw * (2 * padding + 1)).astype(int).tolist()
        padded = tv.pad(torch.from_numpy(image).permute(2, 0, 1), [padding], padding_mode=mode)
        expected = tv.crop(padded, top, left, SIZE, SIZE + 5)
        assert np.array_equal(result, expected.permute(1, 2, 0).numpy())


def test_zero_padding_may_be_larger_than_the_image() -> None:
    middle = np.full((200, 2), 0.5)

    assert np.array_equal(CropRandomly(2 * SIZE, "constant")(IMAGES, middle), IMAGES)
    for outside in (np.zeros((200, 2)), np.full((200, 2), 1 - 2**-32)):
        assert not CropRandomly(2 * SIZE, "constant")(IMAGES, outside).any()


def test_every_place_is_drawn_equally_often() -> None:
    images = np.broadcast_to(np.arange(25, dtype=np.uint8).reshape(1, 5, 5, 1), (9000, 5, 5, 1))
    draws = np.random.default_rng(2).random((9000, 2))

    centres = CropRandomly(1, "constant")(images, draws)[:, 2, 2, 0]

    counts = np.bincount(centres, minlength=25)[[6, 7, 8, 11, 12, 13, 16, 17, 18]]
    assert counts.sum() == 9000
    assert counts.min() > 850  # 1000 expected, standard deviation 30
    assert counts.max() < 1150


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_keep_their_pixels_together(channels: int) -> None:
    images = np.arange(36, dtype=np.uint8).reshape(1, 6, 6, 1).repeat(channels, axis=3)

    cropped = CropRandomly(2, "reflect")(images, np.array([[0.0, 0.99]]))

    assert cropped[0, 2:, :4, 0].tolist() == images[0, :4, 2:, 0].tolist()
    assert (cropped == cropped[..., :1]).all()
