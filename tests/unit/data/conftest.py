import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ImageFile = Callable[..., bytes]
Photos = Callable[..., Path]


def _image_file(seed: int = 0, *, size: tuple[int, int] = (12, 10), kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture
def image_file() -> ImageFile:
    """Return the bytes of an image file of noise."""
    return _image_file


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Make a folder with a subfolder of images for each class."""

    def make(
        name: str = "photos",
        *,
        classes: tuple[str, ...] = ("bird", "cat"),
        per_class: int = 6,
        first_seed: int = 0,
    ) -> Path:
        for place, label in enumerate(classes):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for index in range(per_class):
                seed = first_seed + place * per_class + index
                (folder / f"{index:02d}.png").write_bytes(_image_file(seed))
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, outside the repository."""
    root = Path(os.environ.get("RAYFT_SHARED", Path(__file__).parents[4] / "shared"))
    if not (root / "data" / "cifar10").is_dir():
        pytest.skip(f"no real data at {root}; set RAYFT_SHARED")
    return root / "data"
