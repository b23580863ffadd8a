"""Every job says what to expect of it, and is a valid spec."""

from pathlib import Path

import pytest

from rayft.spec.load import load_spec
from tests.docs.pages import ROOT

JOBS = sorted((ROOT / "jobs").rglob("*.yaml"))


def test_there_are_jobs() -> None:
    assert len(JOBS) >= 1


def _name(job: Path) -> str:
    return str(job.relative_to(ROOT))


@pytest.mark.parametrize("job", JOBS, ids=_name)
def test_a_job_begins_with_command_hardware_duration_and_expectation(job: Path) -> None:
    head = job.read_text(encoding="utf-8").splitlines()[:4]

    assert head[0] == f"# rayft train {_name(job)}"
    for line, word in zip(head[1:], ("Hardware", "Duration", "Expected"), strict=True):
        label, _, text = line.partition(":")
        assert label == f"# {word}"
        assert text.strip()


@pytest.mark.parametrize("job", JOBS, ids=_name)
def test_a_job_is_a_valid_spec(job: Path) -> None:
    load_spec(job)
