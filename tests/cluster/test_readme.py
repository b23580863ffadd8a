"""The commands of cluster/README.md exist, and so do the files that they name."""

import re
import shlex
from collections.abc import Iterator

import pytest
import typer

from rayft.cli.main import app
from rayft.spec.load import load_spec
from tests.cluster.templates import CLUSTER, LAUNCHER, MANIFESTS, RENDER, ROOT

ray_scripts = pytest.importorskip("ray.scripts.scripts")

TEXT = (CLUSTER / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
RAYFT = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OTHERS = {"(umask", "aws", "docker", "export", "helm", "kubectl", "repository=$(aws"}


def _lines() -> Iterator[str]:
    for block in BLOCKS:
        for line in block.splitlines():
            yield from (line.split(" && ") if line.startswith(("ray", "python")) else [line])


LINES = list(_lines())


HOW_TO = (ROOT / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
HOW_TO_LINES = [part for line in HOW_TO.splitlines() for part in line.split(" && ")]


def test_there_are_five_steps_for_each() -> None:
    assert len(BLOCKS) == 10


@pytest.mark.parametrize("line", LINES)
def test_a_command_exists(line: str) -> None:
    words = shlex.split(line)

    if words[0] in ("ray", "rayft", "python"):
        _check(words)
    else:
        assert words[0] in OTHERS


@pytest.mark.parametrize(
    "line", [line for line in HOW_TO_LINES if line.startswith(("ray ", "python "))]
)
def test_a_command_of_the_how_to_exists(line: str) -> None:
    _check(shlex.split(line))


def _check(words: list[str]) -> None:
    match words:
        case ["python", "cluster/render.py", template, *_]:
            assert template.removeprefix("cluster/") in (*LAUNCHER, *MANIFESTS)
        case ["ray", *rest]:
            _check_ray(rest)
        case ["rayft", name, *arguments]:
            values = RAYFT[name].make_context(name, arguments).params
            load_spec(
                ROOT / values["spec"],
                [a.replace("$RAYFT_STORAGE", "s3://bucket/runs") for a in values["overrides"]],
            )
        case _:
            raise AssertionError(words)


def _check_ray(words: list[str]) -> None:
    command = ray_scripts.cli
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    ours = words[: words.index("--")] if "--" in words else words
    values = command.make_context(command.name, [*ours, "--", *words[len(ours) + 1 :]]).params
    if "cmd" in values:
        _check(shlex.split(values["cmd"]))
    if "entrypoint" in values:
        _check(list(values["entrypoint"]))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\bcluster/[\w./-]+\w", TEXT + HOW_TO))))
def test_a_file_that_is_named_exists(path: str) -> None:
    assert path == "cluster/auth_token" or (ROOT / path).exists()


def test_every_file_is_in_the_table() -> None:
    here = {str(p.relative_to(CLUSTER)) for p in CLUSTER.rglob("*") if p.is_file()}
    links = set(re.findall(r"\]\(([^)]+)\)", TEXT))

    # What belongs to the Dockerfile, and this page itself.
    beside = {"README.md", "Dockerfile.dockerignore", "requirements.in", "requirements.txt"}
    assert links == {path for path in here if "__pycache__" not in path} - beside


def test_the_token_is_made_as_a_refusal_says() -> None:
    assert RENDER._MAKE.format(RENDER._TOKEN) in BLOCKS[0]
