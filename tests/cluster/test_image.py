"""The image: pinned, not root, and with what rayft needs."""

import re
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cluster.lint import lint_dockerfile, lint_file
from tests.cluster.templates import CLUSTER, ROOT

DOCKERFILE = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
LOCK = (CLUSTER / "requirements.txt").read_text(encoding="utf-8")
LOCKED = dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", LOCK, re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["demo"]]
REGENERATE = "make the lock again, as cluster/requirements.in says"


def test_the_dockerfile_has_no_findings() -> None:
    assert lint_file(CLUSTER / "Dockerfile") == []


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        (r"@sha256:\w+", "", "digest"),
        (r"--require-hashes ", "", "unlocked"),
        (r"USER \$\{UID\}", "", "root"),
        (r"USER \$\{UID\}", "USER root", "root"),
    ],
)
def test_a_rule_catches_its_bad_example(old: str, new: str, rule: str) -> None:
    spoilt = re.sub(old, new, DOCKERFILE)
    assert spoilt != DOCKERFILE

    assert rule in {finding.rule for finding in lint_dockerfile(spoilt)}


@pytest.mark.parametrize("text", NEEDED)
def test_the_lock_holds_what_rayft_needs(text: str) -> None:
    needed = Requirement(text)

    locked = LOCKED.get(canonicalize_name(needed.name))

    assert locked is not None, REGENERATE
    assert needed.specifier.contains(locked), REGENERATE


def test_every_locked_package_has_a_hash() -> None:
    packages = re.split(r"^(?=[\w.-]+(?:\[[\w,-]+\])?==)", LOCK, flags=re.MULTILINE)[1:]

    assert len(packages) == len(LOCKED)
    assert all("--hash=sha256:" in package for package in packages)


def test_the_clouds_clients_are_locked() -> None:
    asked = (CLUSTER / "requirements.in").read_text(encoding="utf-8").splitlines()

    assert {line for line in asked if line[:1] != "#"} <= LOCKED.keys()


def test_the_image_has_the_ray_that_is_tested() -> None:
    # A cluster is refused by a Ray of another version.
    assert LOCKED["ray"] == version("ray")


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source.rstrip("/") for line in copied for source in line.split()}
    ignore = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()

    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)
