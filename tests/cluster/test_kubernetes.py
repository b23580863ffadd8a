"""The KubeRay manifests: the operator's own schemas, and our rules."""

import copy
import shlex
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

import pytest
import yaml

from rayft.spec.load import load_spec
from tests.cluster.lint import lint_yaml
from tests.cluster.lint_kubernetes import lint_manifest
from tests.cluster.structural import Schema, problems, strict_schema
from tests.cluster.templates import MANIFESTS, ROOT, SHARED, documents, filled

Tree = dict[str, Any]
DEFINITIONS = SHARED / "data" / "kuberay"
FILES = {"RayCluster": "kuberay/raycluster.yaml", "RayJob": "kuberay/rayjob.yaml"}

needs_definitions = pytest.mark.skipif(
    not DEFINITIONS.is_dir(), reason=f"no definitions at {DEFINITIONS}; set RAYFT_SHARED"
)


@cache
def _schema(kind: str) -> Schema:
    path = DEFINITIONS / f"ray.io_{kind.lower()}s.yaml"
    definition = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return strict_schema(definition, "v1")


def _manifest(kind: str) -> Tree:
    (manifest,) = documents(FILES[kind])
    # What the file shares between its parts is taken apart, so that one part can be spoilt.
    return copy.deepcopy(yaml.safe_load(yaml.dump(manifest, Dumper=_NoAliases)))  # type: ignore[no-any-return]


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _cluster(manifest: Tree) -> Tree:
    spec = manifest["spec"]
    return spec.get("rayClusterSpec", spec)  # type: ignore[no-any-return]


def _container(manifest: Tree) -> Tree:
    return _cluster(manifest)["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]  # type: ignore[no-any-return]


def _head(manifest: Tree) -> Tree:
    return _cluster(manifest)["headGroupSpec"]  # type: ignore[no-any-return]


@needs_definitions
@pytest.mark.parametrize("kind", FILES)
def test_the_operator_accepts_a_manifest(kind: str) -> None:
    assert problems(_manifest(kind), _schema(kind)) == []


SPOILT: dict[str, Callable[[Tree], object]] = {
    "a typo": lambda m: m["spec"].update(enableInTreeAutoscalling=True),
    "a typo in a container": lambda m: _container(m).update(imagePullPolice="Always"),
    "a typo in a security context": lambda m: _container(m)["securityContext"].update(
        allowPrivilegeEscalations=False
    ),
    "a number for a text": lambda m: _head(m)["rayStartParams"].update({"num-cpus": 0}),
    "a text for a number": lambda m: _cluster(m)["autoscalerOptions"].update(
        idleTimeoutSeconds="1200"
    ),
    "a mode that is none": lambda m: _cluster(m)["authOptions"].update(mode="tokens"),
    "a quantity that is none": lambda m: _container(m)["resources"]["limits"].update(
        memory="26 GB"
    ),
    "no head": lambda m: _cluster(m).pop("headGroupSpec"),
    "another kind": lambda m: m.update(kind="RayService"),
    "another version": lambda m: m.update(apiVersion="ray.io/v1alpha1"),
}


@needs_definitions
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("case", SPOILT)
def test_the_check_refuses_a_spoilt_manifest(kind: str, case: str) -> None:
    manifest = _manifest(kind)
    SPOILT[case](manifest)

    assert len(problems(manifest, _schema(kind))) == 1


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_has_no_findings(name: str) -> None:
    assert lint_yaml(filled(name)) == []


BAD: dict[str, tuple[str, Callable[[Tree], object]]] = {
    "no token": ("token", lambda m: _cluster(m).pop("authOptions")),
    "token off": ("token", lambda m: _cluster(m)["authOptions"].update(mode="disabled")),
    "a token of the operator's": ("token", lambda m: _cluster(m)["authOptions"].pop("secretName")),
    "a load balancer": ("world", lambda m: _head(m).update(serviceType="LoadBalancer")),
    "a service not said": ("world", lambda m: _head(m).pop("serviceType")),
    "an ingress": ("world", lambda m: _head(m).update(enableIngress=True)),
    "no autoscaling": ("idle", lambda m: _cluster(m).update(enableInTreeAutoscaling=False)),
    "idle not said": ("idle", lambda m: _cluster(m)["autoscalerOptions"].pop("idleTimeoutSeconds")),
    "workers at once": ("idle", lambda m: _cluster(m)["workerGroupSpecs"][0].update(minReplicas=1)),
    "no bound": ("max-workers", lambda m: _cluster(m)["workerGroupSpecs"][1].pop("maxReplicas")),
    "a tag": ("digest", lambda m: _container(m).update(image="rayft:1.2")),
    "root": ("confined", lambda m: _container(m)["securityContext"].pop("runAsNonRoot")),
    "capabilities": ("confined", lambda m: _container(m)["securityContext"].pop("capabilities")),
    "seccomp": ("confined", lambda m: _container(m)["securityContext"].pop("seccompProfile")),
    "an open autoscaler": (
        "confined",
        lambda m: _cluster(m)["autoscalerOptions"].pop("securityContext"),
    ),
    "privileged": ("privilege", lambda m: _container(m)["securityContext"].update(privileged=True)),
    "the machine's network": (
        "privilege",
        lambda m: _head(m)["template"]["spec"].update(hostNetwork=True),
    ),
    "the docker socket": (
        "privilege",
        lambda m: _head(m)["template"]["spec"].update(volumes=[{"hostPath": {"path": "/run"}}]),
    ),
    "no limits": ("resources", lambda m: _container(m)["resources"].pop("limits")),
    "rights of a worker": (
        "rights",
        lambda m: _cluster(m)["workerGroupSpecs"][0]["template"]["spec"].pop(
            "automountServiceAccountToken"
        ),
    ),
    "usage": ("usage", lambda m: _head(m)["template"]["spec"]["containers"][0]["env"].pop(0)),
    "stop": ("stop", lambda m: _head(m)["template"]["spec"]["containers"][0]["env"].pop(1)),
}
BAD_JOBS: dict[str, tuple[str, Callable[[Tree], object]]] = {
    "a cluster that stays": (
        "leftover",
        lambda m: m["spec"].update(shutdownAfterJobFinishes=False),
    ),
    "a day of logs": ("leftover", lambda m: m["spec"].update(ttlSecondsAfterFinished=86400)),
    "retries not said": ("leftover", lambda m: m["spec"].pop("backoffLimit")),
    "no end": ("leftover", lambda m: m["spec"].pop("activeDeadlineSeconds")),
    "an open submitter": ("confined", lambda m: m["spec"].pop("submitterPodTemplate")),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("case", BAD)
def test_a_rule_catches_its_bad_example(kind: str, case: str) -> None:
    rule, spoil = BAD[case]
    manifest = _manifest(kind)
    spoil(manifest)

    assert rule in {finding.rule for finding in lint_manifest(manifest)}


@pytest.mark.parametrize("case", BAD_JOBS)
def test_a_rule_for_jobs_catches_its_bad_example(case: str) -> None:
    rule, spoil = BAD_JOBS[case]
    manifest = _manifest("RayJob")
    spoil(manifest)

    assert rule in {finding.rule for finding in lint_manifest(manifest)}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec["ingress"].append({}),
        lambda spec: spec["ingress"][0].pop("from"),
        lambda spec: spec["ingress"][0].update({"from": [{"podSelector": {}}]}),
        lambda spec: spec["ingress"][0].update({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
        lambda spec: spec.update(policyTypes=["Egress"]),
    ],
)
def test_a_policy_that_lets_everybody_in_is_caught(spoil: Callable[[Tree], object]) -> None:
    (policy,) = [d for d in documents(MANIFESTS[0]) if d["kind"] == "NetworkPolicy"]
    spoil(policy["spec"])

    assert "world" in {finding.rule for finding in lint_manifest(policy)}


def test_a_secret_is_no_file() -> None:
    text = "apiVersion: v1\nkind: Secret\nstringData: {auth_token: in-the-open}\n"

    assert [finding.rule for finding in lint_yaml(text)] == ["secret"]


def test_the_cluster_of_a_job_is_the_cluster_that_stays() -> None:
    assert _cluster(_manifest("RayJob")) == _cluster(_manifest("RayCluster"))


def test_the_policy_covers_every_pod_and_the_accounts_exist() -> None:
    accounts = {
        d["metadata"]["name"] for d in documents(MANIFESTS[0]) if d["kind"] != "NetworkPolicy"
    }
    (policy,) = [d for d in documents(MANIFESTS[0]) if d["kind"] == "NetworkPolicy"]
    job = _manifest("RayJob")
    cluster = _cluster(job)
    pods = [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]

    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    assert all(pod["metadata"]["labels"].items() >= chosen for pod in pods)
    assert {pod["spec"]["serviceAccountName"] for pod in pods} == accounts
    submitter = job["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    assert {"podSelector": {"matchLabels": submitter}} in policy["spec"]["ingress"][1]["from"]


def test_the_manifests_name_the_ray_that_runs_here() -> None:
    assert _cluster(_manifest("RayJob"))["rayVersion"] == version("ray")


def test_the_job_of_the_manifest_is_valid() -> None:
    command, name, spec, *overrides = shlex.split(_manifest("RayJob")["spec"]["entrypoint"])

    assert (command, name) == ("rayft", "train")
    # The Dockerfile copies jobs/ to where a container begins.
    load_spec(ROOT / spec.removeprefix("/home/ray/"), overrides)
