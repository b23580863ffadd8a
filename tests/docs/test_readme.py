"""The README's two commands: what they are, and that CI runs the second."""

from tests.docs.pages import ROOT, code_blocks

FINE_TUNE = 'pip install -e ".[demo]" && rayft train jobs/quickstart.yaml'
GREEN_TESTS = 'pip install -e ".[dev]" && pytest'


def test_the_readme_begins_with_its_two_commands() -> None:
    blocks = [block.text.strip() for block in code_blocks(ROOT / "README.md")]

    assert blocks[:2] == [FINE_TUNE, GREEN_TESTS]


def test_ci_runs_the_second_command() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    lines = [line.strip().replace(" --quiet", "") for line in text.splitlines()]

    steps = GREEN_TESTS.split(" && ")
    assert [line for line in lines if line in steps] == steps
