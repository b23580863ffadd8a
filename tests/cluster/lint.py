"""What is unsafe or dear about a cluster's files: from a file to findings.

    python -m tests.cluster.lint aws.yaml

A `ray up` file is judged as Ray would run it: what it leaves out is what Ray puts there.
"""

import re
import sys
from pathlib import Path

import yaml

from tests.cluster.findings import DIGEST, Finding
from tests.cluster.lint_kubernetes import lint_manifest
from tests.cluster.lint_launcher import lint_launcher

_SECRETS = {
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a value that looks like a secret": re.compile(
        r"(?i)\b\w*(?:password|passwd|secret|token|api_?key|access_?key)\w*[\"']?\s*[:=]\s*"
        r"[\"']?(?=[^\s\"']*\d)[A-Za-z0-9+/_=-]{20,}"
    ),
}


def lint_file(path: Path) -> list[Finding]:
    """Return what is wrong with a Dockerfile, a `ray up` file or Kubernetes manifests."""
    text = path.read_text(encoding="utf-8")
    if path.name.startswith("Dockerfile"):
        return [*lint_text(text), *lint_dockerfile(text)]
    return lint_yaml(text)


def lint_yaml(text: str) -> list[Finding]:
    """Return what is wrong with the documents of a YAML file."""
    findings = lint_text(text)
    for document in yaml.safe_load_all(text):
        findings += lint_manifest(document) if "kind" in document else lint_launcher(document)
    return findings


def lint_text(text: str) -> list[Finding]:
    """Return secrets, and images that change under their name, wherever they stand."""
    findings = []
    for number, line in enumerate(text.splitlines(), start=1):
        for what, pattern in _SECRETS.items():
            if pattern.search(line):
                findings.append(Finding("secret", f"line {number}", what))
        if re.search(r"\w:latest\b|latest_dlami", line.partition("#")[0]):
            findings.append(Finding("latest", f"line {number}", "a name whose content changes"))
    return findings


def lint_dockerfile(text: str) -> list[Finding]:
    """Return what is not pinned in a Dockerfile, and whether it runs as root."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line[:1] not in ("#", "")]
    findings = [
        Finding("digest", line, "the base may change; name it by its digest")
        for line in lines
        if line.startswith("FROM ") and not DIGEST.match(line.split()[1])
    ]
    findings += [
        Finding("unlocked", line.strip(), "packages may change; install them by their hashes")
        for line in lines
        for command in re.findall(r"pip install [^&|;]+", line)
        if not {"--require-hashes", "--no-deps"} & set(command.split())
    ]
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    if not users or users[-1] in ("root", "0"):
        findings.append(Finding("root", "USER", "the processes would run as root"))
    return findings


def main(arguments: list[str]) -> int:
    """Print the findings of files; 1 where there are any."""
    findings = [(path, finding) for path in arguments for finding in lint_file(Path(path))]
    sys.stdout.write("".join(f"{path}: {finding}\n" for path, finding in findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
