"""Unit tests run without Ray: importing it here is an architecture error."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _forbid_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    # A None entry makes `import ray` raise ModuleNotFoundError.
    monkeypatch.setitem(sys.modules, "ray", None)
