import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayft.runtime.allocator import ENVIRONMENT, inherited_by_children, use_huge_pages

CHILD = "import os; print(os.environ.get('MALLOC_ARENA_MAX'))"
FAULTS = """
import resource
import numpy as np
{setup}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(40_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""

HUGE = """
import torch
held = torch.zeros(32, 2**20)
with open("/proc/self/smaps_rollup") as told:
    print(next(line.split()[1] for line in told if line.startswith("AnonHugePages")))
"""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def child(code: str) -> str:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_children_inherit_it_and_this_process_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)

    with inherited_by_children():
        inside = child(CHILD)

    assert inside == "1"
    assert not [name for name in ENVIRONMENT if name in os.environ]


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")

    with inherited_by_children():
        assert child(CHILD) == "7"

    assert os.environ["MALLOC_ARENA_MAX"] == "7"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_blocks_that_were_freed_are_not_faulted_in_again() -> None:
    setup = "from rayft.runtime.allocator import keep_freed_memory; keep_freed_memory()"

    usual = int(child(FAULTS.format(setup="")))
    kept = int(child(FAULTS.format(setup=setup)))

    assert kept < usual / 10


@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[madvise]" not in HUGE_PAGES.read_text(),
    reason="this kernel gives huge pages to all or to none",
)
def test_tensors_lie_on_huge_pages_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_huge_pages()
    left_alone = int(child(HUGE))
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    use_huge_pages()
    asked = int(child(HUGE))

    assert left_alone < 16 * 1024
    assert asked >= 120 * 1024


def test_the_command_line_asks_for_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    code = """
import os, sys
from rayft.cli.main import main
sys.argv = ["rayft", "--help"]
try:
    main()
except SystemExit:
    print(os.environ["THP_MEM_ALLOC_ENABLE"])
"""
    assert child(code).splitlines()[-1] == "1"
