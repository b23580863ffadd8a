"""The shipped templates, filled with settings as a user would give them."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SHARED = Path(os.environ.get("RAYFT_SHARED") or ROOT.parent / "shared")

LAUNCHER = ("aws.yaml", "gcp.yaml", "onprem.yaml")
MANIFESTS = ("kuberay/access.yaml", "kuberay/raycluster.yaml", "kuberay/rayjob.yaml")

SETTINGS: Mapping[str, str] = {
    "RAYFT_IMAGE": f"123456789012.dkr.ecr.us-west-2.amazonaws.com/rayft@sha256:{'ab' * 32}",
    "RAYFT_STORAGE": "s3://rayft-bucket/runs",
    "RAYFT_REGION": "us-west-2",
    "RAYFT_AMI": "ami-0123456789abcdef0",
    "RAYFT_SUBNETS": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
    "RAYFT_SECURITY_GROUP": "sg-0123456789abcdef0",
    "RAYFT_PROJECT": "leaves-1234",
    "RAYFT_ZONE": "us-west2-a",
    "RAYFT_VM_IMAGE": "projects/deeplearning-platform-release/global/images/common-v20261001",
    "RAYFT_HEAD_IP": "10.0.0.1",
    "RAYFT_WORKER_IPS": "10.0.0.2, 10.0.0.3",
    "RAYFT_SSH_USER": "ada",
    "RAYFT_SSH_KEY": "~/.ssh/id_ed25519",
    "RAYFT_SHARED_FOLDER": "/srv/rayft",
}


def _load_render() -> ModuleType:
    """Return cluster/render.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("render", CLUSTER / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up by name.
    sys.modules["render"] = module
    spec.loader.exec_module(module)
    return module


RENDER = _load_render()


def filled(name: str, settings: Mapping[str, str] = SETTINGS) -> str:
    """Return the text of a template with its settings filled in."""
    text, problems = RENDER.render((CLUSTER / name).read_text(encoding="utf-8"), settings)
    assert problems == []
    return str(text)


def documents(name: str, settings: Mapping[str, str] = SETTINGS) -> list[dict[str, Any]]:
    """Return the documents of a template, filled."""
    return list(yaml.safe_load_all(filled(name, settings)))


def launcher(name: str, settings: Mapping[str, str] = SETTINGS) -> dict[str, Any]:
    """Return a `ray up` configuration, filled."""
    (config,) = documents(name, settings)
    return config
