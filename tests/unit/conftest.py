"""Unit tests run without Ray: importing it here is an architecture error."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from rayft.storage.location import Location
from tests.s3 import s3_server

ImageFile = Callable[..., bytes]

# How long an example takes depends on the load.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _forbid_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    # A None entry makes `import ray` raise ModuleNotFoundError.
    monkeypatch.setitem(sys.modules, "ray", None)


def make_image_file(seed: int = 0, *, size: tuple[int, int] = (12, 10), kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture
def image_file() -> ImageFile:
    """Return the bytes of an image file of noise."""
    return make_image_file


@pytest.fixture(scope="session")
def bucket() -> Iterator[Location]:
    """A bucket of a local S3 server, the same for all tests."""
    with s3_server() as address:
        yield Location(address)


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder: on the disk, and once more in an object store."""
    if request.param == "disk":
        return Location(str(tmp_path))
    found: Location = request.getfixturevalue("bucket")
    return found / uuid4().hex
