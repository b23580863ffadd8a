"""Templates are filled from the environment, or refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.templates import CLUSTER, LAUNCHER, MANIFESTS, RENDER, ROOT, SETTINGS, filled

TEMPLATES = (*LAUNCHER, *MANIFESTS)


def _run(template: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    return subprocess.run(
        [sys.executable, "cluster/render.py", f"cluster/{template}"],
        cwd=ROOT,
        env={**environment, **settings, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def _make_token(home: Path) -> Path:
    """Run the command that the refusal shows, as a user would."""
    environment = {**os.environ, "HOME": str(home)}
    command = RENDER._MAKE.format(RENDER._TOKEN)
    subprocess.run(["bash", "-c", command], env=environment, check=True)
    return home / ".rayft" / "cluster" / "auth_token"


def test_the_shown_command_makes_a_token_that_only_its_owner_may_read(tmp_path: Path) -> None:
    token = _make_token(tmp_path)

    assert len(token.read_text(encoding="utf-8")) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.parent.stat().st_mode & 0o777 == 0o700
    assert RENDER.token_problem(token) is None


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_printed_with_all_its_settings(template: str, tmp_path: Path) -> None:
    _make_token(tmp_path)

    found = _run(template, tmp_path, **SETTINGS)

    assert found.returncode == 0, found.stderr
    assert "${RAYFT_" not in found.stdout
    assert found.stdout == filled(template)
    assert list(yaml.safe_load_all(found.stdout))


def test_everything_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    found = _run("aws.yaml", tmp_path, RAYFT_REGION="us-west-2")

    assert found.returncode == 2
    assert found.stdout == ""
    for name in ("IMAGE", "AMI", "SUBNETS", "SECURITY_GROUP"):
        assert f"RAYFT_{name} is not set" in found.stderr
    assert "docker buildx imagetools inspect" in found.stderr
    assert "openssl rand" in found.stderr
    assert "RAYFT_REGION" not in found.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAYFT_IMAGE", "rayft:latest"),
        ("RAYFT_IMAGE", "rayft@sha256:abc"),
        ("RAYFT_STORAGE", "/home/ada/runs"),
        ("RAYFT_AMI", "latest_dlami"),
        ("RAYFT_SECURITY_GROUP", "0.0.0.0/0"),
        ("RAYFT_VM_IMAGE", "projects/p/global/images/family/common"),
        ("RAYFT_SHARED_FOLDER", "relative"),
        ("RAYFT_SSH_USER", "ada; rm -r ~"),
        ("RAYFT_REGION", 'x"\nmax_workers: 999'),
    ],
)
def test_a_value_that_is_none_is_refused(name: str, value: str) -> None:
    _, problems = RENDER.render(f"${{{name}}}", {name: value})

    assert len(problems) == 1
    assert problems[0].startswith(f"{name}={value!r} is not ")


@pytest.mark.parametrize(("mode", "content"), [(0o644, "a" * 64), (0o600, "b" * 9)])
def test_a_weak_token_is_refused(mode: int, content: str, tmp_path: Path) -> None:
    token = tmp_path / ".rayft" / "cluster" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text(content, encoding="utf-8")
    token.chmod(mode)

    found = _run("aws.yaml", tmp_path, **SETTINGS)

    assert found.returncode == 2
    assert str(token) in found.stderr
    assert content not in found.stderr


def test_every_setting_is_used_and_known() -> None:
    texts = "".join((CLUSTER / name).read_text(encoding="utf-8") for name in TEMPLATES)

    assert set(RENDER._PLACE.findall(texts)) == set(RENDER.SETTINGS)


def test_other_dollars_are_left_alone() -> None:
    text, problems = RENDER.render('test "$(id -u)" = $USER ${HOME}', {})

    assert text == 'test "$(id -u)" = $USER ${HOME}'
    assert problems == []
