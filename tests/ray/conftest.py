"""One Ray cluster for all tests of this folder: four logical CPUs in a folder of its own."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Start Ray once; unix sockets allow short paths only, hence not pytest's folder."""
    import ray

    folder = Path(tempfile.mkdtemp(prefix="rft"))
    # Workers import functions of the tests by name.
    root = str(Path(__file__).parents[2])
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=str(folder),
        runtime_env={"env_vars": {"PYTHONPATH": root}},
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nothing_collected() -> Iterator[None]:
    """Leave cycles of references alone, as a driver does that waits and allocates nothing."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
