"""Row stores of images of 1, 4 and n channels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rayft.data.fingerprint import remembered_digests, store_key
from rayft.data.form import Form
from rayft.data.labels import code_labels
from rayft.data.listing import make_listing
from rayft.data.prepare import PreparedDataset, prepare_dataset
from rayft.data.readers import ValueRows
from rayft.data.report.measure import measure_images
from rayft.data.statistics import channel_statistics
from rayft.errors import DataError
from rayft.feed.gather import gather_images
from rayft.plan.storage import stored_as
from rayft.spec.data import DataSpec
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from rayft.transforms.decode import decode_image, fit_array
from tests.unit.data.conftest import Photos
from tests.unit.transforms.test_decode_channels import file_of

SIZE = 8
ARRAYS = np.random.default_rng(5).integers(0, 256, (12, 10, 9, 6), np.uint8)


def bands(*, count: int) -> Iterator[dict[str, Any]]:
    """Yield arrays of some channels in two classes."""
    for number, array in enumerate(ARRAYS):
        yield {"image": array[..., :count], "label": str(number % 2)}


def pillow_images(*, mode: str) -> Iterator[dict[str, Any]]:
    """Yield opened images, as data sets of other libraries do."""
    for number, array in enumerate(ARRAYS):
        image = Image.fromarray(np.ascontiguousarray(array[..., :4]))
        image = image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)
        yield {"image": image, "label": str(number % 2)}


def files_among_arrays() -> Iterator[dict[str, Any]]:
    """Yield arrays of 6 channels, and one image file."""
    for number, row in enumerate(bands(count=6)):
        yield {**row, "image": b"\x89PNG"} if number == 3 else row


def spec_of(function: str, *, channels: int, **more: Any) -> DataSpec:
    args = {name: more.pop(name) for name in ("count", "mode") if name in more}
    source = {"kind": "python", "function": f"{__name__}:{function}", "args": args}
    return DataSpec.model_validate({"train": source, "channels": channels, **more})


def prepare(data: DataSpec, folder: Path) -> PreparedDataset:
    return prepare_dataset(
        data,
        base_dir=folder,
        store_root=Location(str(folder / "stores")),
        image_size=SIZE,
        stored_size=SIZE,
        use_ray=False,
        on_progress=lambda done, total: None,
    )


def rows_of(prepared: PreparedDataset) -> np.ndarray:
    split = open_dataset(prepared.ref).splits["train"]
    return gather_images(split.store, split.row_ids, threads=2)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_arrays_of_exactly_these_channels_are_the_rows(channels: int, tmp_path: Path) -> None:
    prepared = prepare(spec_of("bands", count=channels, channels=channels), tmp_path)

    rows = rows_of(prepared)

    assert rows.shape == (12, SIZE, SIZE, channels)
    for row, array in zip(rows, ARRAYS, strict=True):
        expected = fit_array(array[..., :channels], size=SIZE, resize="crop", channels=channels)
        assert np.array_equal(row, expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files_become_them_and_encoded_rows_are_the_same(
    channels: int, photos: Photos, tmp_path: Path
) -> None:
    folder = photos()
    source = {"kind": "folder", "path": str(folder)}
    rows = {}
    for kind in ("decoded", "encoded"):
        raw = {"train": source, "channels": channels, "stored_as": kind}
        rows[kind] = rows_of(prepare(DataSpec.model_validate(raw), tmp_path))

    files = sorted(folder.rglob("*.png"))
    for row, file in zip(rows["decoded"], files, strict=True):
        expected = decode_image(file.read_bytes(), size=SIZE, resize="crop", channels=channels)
        assert np.array_equal(row, expected)
    assert np.array_equal(rows["decoded"], rows["encoded"])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_arrays_that_are_stored_as_files_are_the_same_rows(
    count: int, channels: int, tmp_path: Path
) -> None:
    found = [
        rows_of(prepare(spec_of("bands", count=count, channels=channels, stored_as=kind), tmp_path))
        for kind in ("decoded", "encoded")
    ]

    assert np.array_equal(*found)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
@pytest.mark.parametrize("channels", [1, 4])
def test_opened_images_are_as_their_files(mode: str, channels: int, tmp_path: Path) -> None:
    rows = rows_of(prepare(spec_of("pillow_images", mode=mode, channels=channels), tmp_path))

    files = [file_of(row["image"]) for row in pillow_images(mode=mode)]
    for row, file in zip(rows, files, strict=True):
        expected = decode_image(file, size=SIZE, resize="crop", channels=channels)
        assert np.array_equal(row, expected)


def test_other_channels_are_another_store(photos: Photos, tmp_path: Path) -> None:
    source = {"kind": "folder", "path": str(photos())}

    fingerprints = {
        open_dataset(prepare(DataSpec.model_validate(raw), tmp_path).ref).fingerprint
        for raw in (
            {"train": source},
            *({"train": source, "channels": channels} for channels in (1, 3, 4)),
        )
    }

    assert len(fingerprints) == 3
    assert len(list((tmp_path / "stores" / "rows").iterdir())) == 3


def test_a_store_of_rgb_keeps_the_key_that_it_always_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayft.data.fingerprint.FORMAT_VERSION", 2)
    monkeypatch.setattr("rayft.data.fingerprint.DECODER_VERSION", 1)
    reader = ValueRows(values=[np.full((4, 4, 3), level, np.uint8) for level in (1, 2)])
    labels = code_labels(["a", "b"])
    listing = make_listing(where="here", labels=labels, groups=None, reader=reader)
    digests = remembered_digests(reader, store_root=Location(str(tmp_path)))

    form = Form(stored_as="decoded", stored_size=8, resize="crop")
    key = store_key(listing, digests, form=form, rows_per_shard=2)

    assert key == "c5f13304cc99874f8d564033b9fe6647a33c3747ce33fb1ec3b2071ab8811309"


@pytest.mark.parametrize("limit", [0.0, 0.1])
def test_a_file_among_arrays_is_a_bad_row_with_a_reason(limit: float, tmp_path: Path) -> None:
    data = spec_of("files_among_arrays", channels=6, bad_rows={"limit": limit})

    if not limit:
        with pytest.raises(DataError, match="image files hold 1, 3 or 4 channels, and 6 are asked"):
            prepare(data, tmp_path)
        return
    store = open_dataset(prepare(data, tmp_path).ref).splits["train"].store

    assert [row.row for row in store.manifest.quarantined] == [3]
    assert store.manifest.channels == 6


def test_channels_that_no_file_has_are_stored_decoded_whatever_their_size() -> None:
    for channels, expected in ((6, "decoded"), (4, "encoded")):
        data = spec_of("bands", channels=channels)

        assert stored_as(data, num_rows=10**9, stored_size=224) == expected


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_statistics_are_of_every_channel(channels: int, tmp_path: Path) -> None:
    prepared = prepare(spec_of("bands", count=channels, channels=channels), tmp_path)

    mean, std = channel_statistics(open_dataset(prepared.ref))

    pixels = rows_of(prepared).reshape(-1, channels) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=0))
    np.testing.assert_allclose(std, pixels.std(axis=0))


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_images_of_any_channels_are_measured(channels: int) -> None:
    images = ARRAYS[:, :9, :, :channels]

    found = measure_images(images)

    assert len(found) == 12
    np.testing.assert_allclose(found.colour, images.mean(axis=(1, 2)) / 255, rtol=1e-5)
    if channels >= 3:
        assert np.array_equal(found.look, measure_images(images[..., :3]).look)


def test_a_grey_image_is_as_bright_as_in_rgb() -> None:
    grey = np.ascontiguousarray(ARRAYS[:, :9, :, :1])

    found, as_rgb = measure_images(grey), measure_images(grey.repeat(3, axis=3))

    np.testing.assert_allclose(found.brightness, as_rgb.brightness, rtol=1e-5)
    np.testing.assert_allclose(found.sharpness, as_rgb.sharpness, rtol=1e-4)
