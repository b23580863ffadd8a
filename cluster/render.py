"""Fill the settings of a template in, from the environment, and print it.

    python cluster/render.py cluster/aws.yaml > aws.yaml

What is missing or unsafe is refused, all of it at once, with the command that gives it. Needs
nothing but Python.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DIGEST = r"[\w.:/-]+@sha256:[0-9a-f]{64}"
_PLACE = re.compile(r"\$\{(RAYFT_[A-Z_]+)\}")
_TOKEN = Path("~/.rayft/cluster/auth_token")
_MAKE = "(umask 077 && mkdir -p ~/.rayft/cluster && openssl rand -hex 32 | tr -d '\\n' > {})"


@dataclass(frozen=True)
class Setting:
    """A value that only the user knows."""

    pattern: str
    what: str
    source: str
    """The command that prints it, or where it is found."""


_FROM_STACK = "one of the Settings that the stack of cluster/aws-account.yaml puts out"
_FROM_YOU = "you choose it"
_FROM_EITHER = f"on AWS {_FROM_STACK}; else {_FROM_YOU}"

SETTINGS: Mapping[str, Setting] = {
    "RAYFT_IMAGE": Setting(
        _DIGEST,
        "the image as REPOSITORY@sha256:DIGEST",
        "docker buildx imagetools inspect REPOSITORY:VERSION --format '{{.Manifest.Digest}}'",
    ),
    "RAYFT_STORAGE": Setting(
        r"(s3|gs)://[\w./-]+", "the bucket for runs, as s3:// or gs://", _FROM_EITHER
    ),
    "RAYFT_REGION": Setting(r"[a-z]+-[a-z0-9-]+", "the cloud's region", _FROM_EITHER),
    "RAYFT_AMI": Setting(r"ami-[0-9a-f]+", "the machine image", _FROM_STACK),
    "RAYFT_SUBNETS": Setting(
        r"subnet-[0-9a-f]+(, ?subnet-[0-9a-f]+)*", "subnets, with commas between", _FROM_STACK
    ),
    "RAYFT_SECURITY_GROUP": Setting(r"sg-[0-9a-f]+", "the security group", _FROM_STACK),
    "RAYFT_PROJECT": Setting(r"[a-z][a-z0-9-]+", "the project", "gcloud config get project"),
    "RAYFT_ZONE": Setting(r"[a-z]+-[a-z0-9]+-[a-z]", "a zone", "gcloud compute zones list"),
    "RAYFT_VM_IMAGE": Setting(
        r"(https://www\.googleapis\.com/compute/v1/)?projects/[\w-]+/global/images/[\w-]+",
        "the machine image",
        "gcloud compute images describe-from-family common-cu129-ubuntu-2204-nvidia-580 "
        "--project deeplearning-platform-release --format 'value(selfLink)'",
    ),
    "RAYFT_HEAD_IP": Setting(r"[\w.:-]+", "the head's address", _FROM_YOU),
    "RAYFT_WORKER_IPS": Setting(
        r"[\w.:-]+(, ?[\w.:-]+)*", "the workers' addresses, with commas between", _FROM_YOU
    ),
    "RAYFT_SSH_USER": Setting(r"[a-z_][\w-]*", "the user on every machine", _FROM_YOU),
    "RAYFT_SSH_KEY": Setting(r"[~/][\w./-]*", "the file of the private key", _FROM_YOU),
    "RAYFT_SHARED_FOLDER": Setting(
        r"/[\w./-]+", "the network file system's folder on every machine", _FROM_YOU
    ),
}


def render(text: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return `text` with its settings filled in, and what is wrong with them."""
    names = dict.fromkeys(_PLACE.findall(text))
    problems = [problem for name in names if (problem := _problem(name, environment.get(name)))]
    return _PLACE.sub(lambda match: environment.get(match[1], match[0]), text), problems


def token_problem(token: Path) -> str | None:
    """Return what is wrong with the file of the token that every node will get."""
    make = _MAKE.format(_TOKEN)
    if not token.is_file():
        return f"{token}: no such file; make the cluster's token: {make}"
    if len(token.read_text(encoding="utf-8").strip()) < 32:
        return f"{token}: shorter than 32 characters; make another: {make}"
    if token.stat().st_mode & 0o077:
        return f"{token}: others may read it; chmod 600 {token}"
    return None


def _problem(name: str, value: str | None) -> str | None:
    setting = SETTINGS.get(name)
    if setting is None:
        return f"{name}: no such setting; expected one of {', '.join(SETTINGS)}"
    if not value:
        return f"{name} is not set: {setting.what}\n    {setting.source}"
    if not re.fullmatch(setting.pattern, value):
        return f"{name}={value!r} is not {setting.what}\n    {setting.source}"
    return None


def main(arguments: list[str]) -> int:
    """Print the filled template; 2 where it cannot be filled."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python cluster/render.py TEMPLATE\n")
        return 2
    text = Path(arguments[0]).read_text(encoding="utf-8")
    filled, problems = render(text, os.environ)
    if "file_mounts:" in text and (problem := token_problem(_TOKEN.expanduser())):
        problems.append(problem)
    if problems:
        sys.stderr.write("".join(f"error: {problem}\n" for problem in problems))
        return 2
    sys.stdout.write(filled)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
