"""A dataset prepared once, and a process group of one rank that talks through NCCL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from rayft.data.prepare import PreparedDataset
from tests.gpu.harness import spec_on_device
from tests.laws.harness import prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare(spec_on_device(), tmp_path_factory.mktemp("data"))


@pytest.fixture
def nccl(tmp_path: Path) -> Iterator[None]:
    store = dist.FileStore(str(tmp_path / "meeting"), 1)
    dist.init_process_group("nccl", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()
