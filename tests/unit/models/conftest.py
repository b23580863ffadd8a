"""What the tests of models share.

One thread runs them all: their images are small, and a second thread only waits.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rayft.models.backbone import make_backbone
from tests.unit.models.building import spec_with


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    """An official state dict of mobilenet_v2, with its classifier."""
    net = make_backbone(spec_with("none")).net
    classifier = {"classifier.1.weight": torch.zeros(9, 1280), "classifier.1.bias": torch.zeros(9)}
    return dict(net.state_dict()) | classifier


@pytest.fixture
def pth(official: dict[str, Tensor], tmp_path: Path) -> Path:
    torch.save(official, tmp_path / "m.pth")
    return tmp_path / "m.pth"
