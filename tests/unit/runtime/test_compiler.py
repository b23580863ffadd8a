"""torch.compile calls a compiler in the first step: one that is missing is told before."""

from pathlib import Path

import pytest
import torch

from rayft.errors import SpecError
from rayft.plan.facts import DeviceName
from rayft.runtime.compiler import check_compiler
from tests.laws.harness import make_spec


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on the PATH, of a machine with a GPU; it is empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    return tmp_path


def install(folder: Path, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("device", "other", "expected"),
    [
        ("cpu", "gcc", r"a C\+\+ compiler, and none is on the PATH(.|\n)*g\+\+ or clang\+\+"),
        ("cuda", "g++", r"a C compiler, and none is on the PATH(.|\n)*gcc or clang"),
    ],
)
def test_a_compiler_that_is_missing_is_told(
    tools: Path, device: DeviceName, other: str, expected: str
) -> None:
    install(tools, other)

    check_compiler(make_spec(), device)
    with pytest.raises(SpecError, match=expected):
        check_compiler(make_spec(torch_compile=True), device)


@pytest.mark.parametrize(("device", "name"), [("cpu", "clang++"), ("cuda", "gcc")])
def test_a_compiler_on_the_path_is_enough(tools: Path, device: DeviceName, name: str) -> None:
    install(tools, name)

    check_compiler(make_spec(torch_compile=True), device)


@pytest.mark.parametrize(("device", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_a_compiler_that_is_named_is_looked_for(
    tools: Path, monkeypatch: pytest.MonkeyPatch, device: DeviceName, variable: str
) -> None:
    install(tools, "icx")
    monkeypatch.setenv(variable, "icx")

    check_compiler(make_spec(torch_compile=True), device)
    monkeypatch.setenv(variable, "other")
    with pytest.raises(SpecError, match="none is on the PATH"):
        check_compiler(make_spec(torch_compile=True), device)


def test_what_stands_beside_gpus_of_other_machines_is_not_known(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    check_compiler(make_spec(torch_compile=True), "cuda")
