import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.conftest import make_image_file

Photos = Callable[..., Path]


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
                (folder / f"{index:02d}.png").write_bytes(make_image_file(seed))
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, outside the repository."""
    root = Path(os.environ.get("RAYFT_SHARED", Path(__file__).parents[4] / "shared"))
    if not (root / "data" / "cifar10").is_dir():
        pytest.skip(f"no real data at {root}; set RAYFT_SHARED")
    return root / "data"
