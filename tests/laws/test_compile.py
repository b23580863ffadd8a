"""`torch_compile` changes the speed and, within rounding, nothing else."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from rayft.data.prepare import PreparedDataset
from tests.laws.harness import make_spec, run_group


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.timeout(300)
def test_a_compiled_run_gives_the_same_weights_and_checkpoint_names(
    prepared: PreparedDataset, tmp_path: Path
) -> None:
    phases = [{"name": "top", "train": ["heads", "last 1"], "for": "2 steps", "lr": 0.001}]

    plain = run_group(make_spec(phases=phases), prepared, tmp_path / "plain")
    compiled = run_group(
        make_spec(phases=phases, torch_compile=True), prepared, tmp_path / "compiled"
    )

    assert plain is not None
    assert compiled is not None
    assert compiled.state.keys() == plain.state.keys()
    for name, value in plain.state.items():
        np.testing.assert_allclose(compiled.state[name], value, atol=1e-4, err_msg=name)
