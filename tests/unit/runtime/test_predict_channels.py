"""Predicting with models of grey images and of four channels, from a checkpoint alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rayft
from rayft.errors import CheckpointError
from rayft.runtime.predict_job import PredictOptions
from rayft.storage.location import Location
from tests.laws.harness import SIZE, make_spec
from tests.unit.conftest import make_image_file
from tests.unit.runtime.predicting import make_checkpoint, probabilities

OPTIONS = PredictOptions(workers=0, batch_size=4)


def predicted(channels: int, folder: Path, photos: Path) -> np.ndarray:
    data = make_spec().model_dump(mode="json")["data"] | {"channels": channels}
    run = make_checkpoint(Location(str(folder / f"run{channels}")), data=data)
    rayft.predict(run.url, photos, folder / f"out{channels}", options=OPTIONS)
    return probabilities(folder / f"out{channels}")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(make_image_file(number, size=(40, 36)))
    return folder


def test_grey_files_and_their_copies_in_rgb_are_predicted_alike(
    photos: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    for file in photos.iterdir():
        with Image.open(file) as image:
            grey = image.convert("L")
        grey.save(file)
        grey.convert("RGB").save(copies / file.name)

    found = predicted(1, tmp_path, photos)

    assert found.shape == (6, 3)
    (tmp_path / "again").mkdir()
    assert np.array_equal(found, predicted(1, tmp_path / "again", copies))
    assert len({tuple(row) for row in found.tolist()}) == 6


def test_a_model_of_channels_that_no_file_has_is_refused(photos: Path, tmp_path: Path) -> None:
    source = {"kind": "python", "function": "nothing:rows"}
    data = {"train": source, "channels": 2, "image_size": SIZE}
    run = make_checkpoint(Location(str(tmp_path / "run")), data=data)

    with pytest.raises(CheckpointError, match="2 channels, and image files hold 1, 3 or 4"):
        rayft.predict(run.url, photos, tmp_path / "out", options=OPTIONS)

    assert not (tmp_path / "out").exists()


def test_opacity_counts_where_there_are_four_channels(photos: Path, tmp_path: Path) -> None:
    clear = tmp_path / "clear"
    clear.mkdir()
    for file in photos.iterdir():
        with Image.open(file) as image:
            layer = image.convert("RGBA")
        layer.putalpha(9)
        layer.save(clear / file.name)
    (tmp_path / "again").mkdir()

    opaque, seen_through = predicted(4, tmp_path, photos), predicted(4, tmp_path / "again", clear)

    assert opaque.shape == (6, 3)
    assert (opaque != seen_through).any(axis=1).all()
