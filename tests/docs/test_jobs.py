"""Every job says what to expect of it, and is a valid spec."""

from pathlib import Path

import pytest

from rayft.spec.load import load_spec
from rayft.spec.load_sweep import load_sweep
from tests.docs.pages import ROOT

JOBS = sorted((ROOT / "jobs").rglob("*.yaml"))
SWEEPS = [job for job in JOBS if job.read_text(encoding="utf-8").startswith("# rayft tune")]


def test_there_are_jobs() -> None:
    assert len(SWEEPS) >= 1
    assert len(JOBS) > len(SWEEPS)


def _name(job: Path) -> str:
    return str(job.relative_to(ROOT))


@pytest.mark.parametrize("job", JOBS, ids=_name)
def test_a_job_begins_with_command_hardware_duration_and_expectation(job: Path) -> None:
    head = job.read_text(encoding="utf-8").splitlines()[:4]

    assert head[0] == f"# rayft {'tune' if job in SWEEPS else 'train'} {_name(job)}"
    for line, word in zip(head[1:], ("Hardware", "Duration", "Expected"), strict=True):
        label, _, text = line.partition(":")
        assert label == f"# {word}"
        assert text.strip()


@pytest.mark.parametrize("job", JOBS, ids=_name)
def test_a_job_is_a_valid_spec(job: Path) -> None:
    load_sweep(job) if job in SWEEPS else load_spec(job)
