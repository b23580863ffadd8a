"""What the docs say is checked without Ray."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _forbid_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    # A None entry makes `import ray` raise ModuleNotFoundError.
    monkeypatch.setitem(sys.modules, "ray", None)
