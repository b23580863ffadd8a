"""A local cluster of four logical CPUs, with a temporary folder and an address of its own."""

import shutil
import tempfile
from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Start Ray once for the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        # Ray's sockets lie below it, and their paths may have 107 characters at most.
        folder = tempfile.mkdtemp(prefix="rf", dir="/tmp")
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=folder,
        )
        yield
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
