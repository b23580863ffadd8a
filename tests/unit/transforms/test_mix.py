"""mixup and cutmix: what a row becomes depends on the row and its partner alone."""

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from rayft.spec.mix import MixSpec
from rayft.transforms.mix import Mixing

SPEC: TypeAdapter[MixSpec] = TypeAdapter(MixSpec)
SIZE = 24


def mixing(*specs: dict[str, Any], seed: int = 3) -> Mixing:
    return Mixing([SPEC.validate_python(spec) for spec in specs], seed)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def mix(mixing: Mixing, count: int, epoch: Any = 0) -> tuple[np.ndarray, np.ndarray]:
    return mixing(images(count), images(count, 1), np.arange(count) * 7, epoch=epoch)


KINDS = [{"kind": "mixup", "alpha": 0.8}, {"kind": "cutmix"}]


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec["kind"])
def test_rows_are_the_same_whatever_lies_beside_them(spec: dict[str, Any]) -> None:
    whole, shares = mix(mixing(spec), 20)

    rows = np.array([11, 3, 17])
    some, some_shares = mixing(spec)(images(20)[rows], images(20, 1)[rows], rows * 7, epoch=0)

    assert np.array_equal(some, whole[rows])
    assert np.array_equal(some_shares, shares[rows])


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec["kind"])
def test_rows_epochs_and_seeds_draw_by_themselves(spec: dict[str, Any]) -> None:
    shares = mix(mixing(spec), 50)[1]

    assert len(set(shares.tolist())) > 25
    assert not np.array_equal(shares, mix(mixing(spec), 50, epoch=1)[1])
    assert not np.array_equal(shares, mix(mixing(spec, seed=4), 50)[1])
    views = np.arange(50) % 2
    both = np.where(views, mix(mixing(spec), 50, epoch=1)[1], shares)
    assert np.array_equal(mix(mixing(spec), 50, epoch=views)[1], both)


def test_mixup_is_the_mean_by_its_shares() -> None:
    found, shares = mix(mixing(KINDS[0]), 40)

    exact = images(40) * shares[:, None, None, None].astype(np.float64)
    exact += images(40, 1) * (1 - shares[:, None, None, None].astype(np.float64))
    assert np.abs(found - exact).max() <= 0.5


def test_cutmix_keeps_its_share_of_the_pixels_and_takes_the_rest_from_one_rectangle() -> None:
    own, other = np.zeros((200, SIZE, SIZE, 3), np.uint8), np.ones((200, SIZE, SIZE, 3), np.uint8)

    found, shares = mixing(KINDS[1])(own, other, np.arange(200), epoch=0)

    assert np.allclose(1 - found[..., 0].mean(axis=(1, 2)), shares, atol=1e-6)
    for image in found[..., 0]:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert image.sum() == len(rows) * len(columns)
    assert (shares > 0.9).any()
    assert (shares < 0.3).any()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    row_ids = np.arange(4000)
    blank = np.zeros((4000, 1, 1, 3), np.uint8)

    _, shares = mixing({"kind": "mixup", "alpha": alpha})(blank, blank, row_ids, epoch=0)

    assert shares.mean() == pytest.approx(0.5, abs=0.025)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


def test_each_kind_takes_its_share_of_the_rows() -> None:
    row_ids = np.arange(4000)
    own = np.zeros((4000, 8, 8, 3), np.uint8)
    specs = (
        {"kind": "mixup", "alpha": 4.0, "probability": 0.3},
        {"kind": "cutmix", "probability": 0.2},
    )

    found, shares = mixing(*specs)(own, own + 255, row_ids, epoch=0)

    blended = ((found > 0) & (found < 255)).any(axis=(1, 2, 3))
    whole = (shares == 1) & ~found.any(axis=(1, 2, 3))
    assert blended.mean() == pytest.approx(0.3, abs=0.03)
    assert whole.mean() == pytest.approx(0.5 + 0.2 * 0.03, abs=0.05)


def test_images_are_left_as_they_are() -> None:
    own, other = images(9), images(9, 1)
    own.flags.writeable = other.flags.writeable = False

    mixing(*({**spec, "probability": 0.5} for spec in KINDS))(own, other, np.arange(9), epoch=0)

    assert np.array_equal(own, images(9))
