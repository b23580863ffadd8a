"""A dataset prepared once for all laws."""

import pytest

from rayft.data.prepare import PreparedDataset
from tests.laws.harness import make_spec, prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare(make_spec(), tmp_path_factory.mktemp("data"))
