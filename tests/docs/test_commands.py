"""Every command line in the docs can be parsed, and every option is documented."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from rayft.cli.main import app
from rayft.spec.load import load_spec
from rayft.spec.overrides import split_override
from tests.docs.pages import DOCS, ROOT, Found, all_pages, code_blocks, inline_codes


def _commands(group: Any, prefix: str = "") -> dict[str, Any]:
    """Return every command by its name, those of a group as `group command`."""
    found = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= _commands(command, f"{prefix}{name} ")
        else:
            found[prefix + name] = command
    return found


COMMANDS = _commands(typer.main.get_command(app))
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def _parted(text: str) -> tuple[str, list[str]]:
    """Part a command line into the name of the command and its arguments."""
    _, *words = shlex.split(text, comments=True)
    length = 2 if words[0] in GROUPS else 1
    return " ".join(words[:length]), words[length:]


def _command_lines() -> Iterator[Found]:
    for page in all_pages():
        for block in code_blocks(page):
            if block.language not in ("", "sh", "bash"):
                continue
            for offset, text in enumerate(block.text.splitlines()):
                for part in text.split("&&"):
                    if part.strip().startswith("rayft "):
                        yield Found(page, block.line + offset, part.strip())


def _mentions() -> Iterator[Found]:
    for page in all_pages():
        for code in inline_codes(page):
            for part in code.text.split("&&"):
                if part.strip().startswith("rayft "):
                    yield Found(page, code.line, part.strip())


LINES = list(_command_lines())
MENTIONS = list(_mentions())


def test_the_docs_show_commands() -> None:
    assert len(LINES) >= 20
    assert len(MENTIONS) >= 10


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_command_line_is_understood(line: Found) -> None:
    name, arguments = _parted(line.text)

    values = COMMANDS[name].make_context(name, arguments).params

    for override in values.get("overrides") or ():
        split_override(override)


JOBS = [line for line in LINES if " jobs/" in line.text]


@pytest.mark.parametrize("line", JOBS, ids=str)
def test_the_overrides_of_a_job_are_valid(line: Found) -> None:
    name, arguments = _parted(line.text)
    values = COMMANDS[name].make_context(name, arguments).params

    load_spec(ROOT / values["spec"], values["overrides"] or ())


@pytest.mark.parametrize("mention", MENTIONS, ids=str)
def test_a_command_in_a_sentence_exists(mention: Found) -> None:
    name, arguments = _parted(mention.text)
    if name.startswith("-"):
        assert name in ("--help", "-h")
        return
    used = {argument for argument in arguments if argument.startswith("-")}

    assert used <= _options(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_knows_every_option(name: str) -> None:
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    section = page.partition(f"## `rayft {name}`")[2].partition("\n## ")[0]

    missing = {o for o in _options(name) if o not in section + page.partition("\n## ")[0]}

    assert section
    # typer makes a twin that switches each switch off again, which is the default anyway.
    assert {option for option in missing if not option.startswith("--no-")} == set()


def _options(name: str) -> set[str]:
    params = COMMANDS[name].params
    options = {option for param in params for option in (*param.opts, *param.secondary_opts)}
    return {option for option in options if option.startswith("-")} | {"--help", "-h"}
