"""The rules for Kubernetes manifests."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from tests.cluster.findings import DIGEST, Finding, open_networks

Tree = Mapping[str, Any]

LEAST_IDLE_S = 960
MOST_IDLE_S = 3600
LEAST_STOP_S = 60
MOST_WORKERS = 64

_CONFINED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def lint_manifest(manifest: Tree) -> list[Finding]:
    """Return what is unsafe or dear in one manifest."""
    findings = list(open_networks(manifest))
    match manifest["kind"]:
        case "RayCluster":
            findings += _cluster(manifest["spec"])
        case "RayJob":
            findings += _job(manifest["spec"])
        case "NetworkPolicy":
            findings += _policy(manifest["spec"])
        case "Secret":
            findings.append(Finding("secret", "Secret", "secrets are made by a command, not kept"))
        case "ServiceAccount":
            pass
        case kind:
            findings.append(Finding("unknown", str(kind), "no rule knows this kind"))
    return findings


def _job(spec: Tree) -> Iterator[Finding]:
    if spec.get("shutdownAfterJobFinishes") is not True:
        yield Finding("leftover", "shutdownAfterJobFinishes", "the cluster outlives its run")
    for key in ("ttlSecondsAfterFinished", "backoffLimit", "activeDeadlineSeconds"):
        if key not in spec:
            yield Finding("leftover", key, "not said, so that KubeRay decides")
    if spec.get("ttlSecondsAfterFinished", 0) > MOST_IDLE_S:
        yield Finding("leftover", "ttlSecondsAfterFinished", "machines wait for nobody")
    submitter = spec.get("submitterPodTemplate")
    if submitter is None:
        yield Finding("confined", "submitterPodTemplate", "KubeRay's own is not confined")
    else:
        yield from _pod(submitter, "submitterPodTemplate", may_call_kubernetes=False)
    yield from _cluster(spec["rayClusterSpec"])


def _cluster(spec: Tree) -> Iterator[Finding]:
    auth = spec.get("authOptions") or {}
    if auth.get("mode") != "token" or not auth.get("secretName"):
        yield Finding("token", "authOptions", "whoever reaches a port may run code")
    head = spec["headGroupSpec"]
    if head.get("serviceType") != "ClusterIP":
        yield Finding("world", "headGroupSpec.serviceType", "reachable from outside, or not said")
    if head.get("enableIngress") or "ingressOptions" in head or "headService" in head:
        yield Finding("world", "headGroupSpec", "an ingress or a service of its own")
    yield from _autoscaling(spec)
    # The autoscaler in the head's pod calls Kubernetes.
    yield from _pod(head["template"], "headGroupSpec", may_call_kubernetes=True)
    yield from _environment(head["template"])
    for group in spec.get("workerGroupSpecs") or []:
        yield from _pod(group["template"], group["groupName"], may_call_kubernetes=False)


def _autoscaling(spec: Tree) -> Iterator[Finding]:
    if spec.get("enableInTreeAutoscaling") is not True:
        yield Finding("idle", "enableInTreeAutoscaling", "workers would stay for ever")
    options = spec.get("autoscalerOptions") or {}
    if not LEAST_IDLE_S <= options.get("idleTimeoutSeconds", 60) <= MOST_IDLE_S:
        yield Finding("idle", "autoscalerOptions", "shorter than two boots, or dear")
    yield from _confined(options, "autoscalerOptions")
    for group in spec.get("workerGroupSpecs") or []:
        name = group["groupName"]
        if group.get("minReplicas") != 0 or group.get("replicas") != 0:
            yield Finding("idle", name, "begins with workers, or does not say that it has none")
        if not 0 < group.get("maxReplicas", 2**31) <= MOST_WORKERS:
            yield Finding("max-workers", name, "no bound on what it may cost")


def _environment(template: Tree) -> Iterator[Finding]:
    values = {
        entry["name"]: entry.get("value", "")
        for container in template["spec"]["containers"]
        for entry in container.get("env") or []
    }
    if values.get("RAY_USAGE_STATS_ENABLED") != "0":
        yield Finding("usage", "headGroupSpec", "RAY_USAGE_STATS_ENABLED is not said")
    if int(values.get("RAY_JOB_STOP_WAIT_TIME_S", "3")) < LEAST_STOP_S:
        yield Finding("stop", "headGroupSpec", "`ray job stop` kills before a run saved")


def _pod(template: Tree, where: str, *, may_call_kubernetes: bool) -> Iterator[Finding]:
    pod = cast(Tree, template["spec"])
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield Finding("privilege", where, f"{key} gives the pod the machine's")
    if any("hostPath" in volume for volume in pod.get("volumes") or []):
        yield Finding("privilege", where, "a folder of the machine")
    if not may_call_kubernetes and pod.get("automountServiceAccountToken") is not False:
        yield Finding("rights", where, "gets a token for Kubernetes that it does not need")
    for container in [*pod["containers"], *(pod.get("initContainers") or [])]:
        if not DIGEST.match(container.get("image") or ""):
            yield Finding("digest", where, f"image {container.get('image')} has no digest")
        yield from _confined(container, where)


def _confined(container: Tree, where: str) -> Iterator[Finding]:
    context = container.get("securityContext") or {}
    for key, value in _CONFINED.items():
        if context.get(key) != value:
            yield Finding("confined", where, f"securityContext.{key} is not {value}")
    if context.get("privileged"):
        yield Finding("privilege", where, "privileged")
    resources = container.get("resources") or {}
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= set(resources.get(kind) or {}):
            yield Finding("resources", where, f"no {kind} of cpu and memory")


def _policy(spec: Tree) -> Iterator[Finding]:
    if "Ingress" not in spec.get("policyTypes", []):
        yield Finding("world", "NetworkPolicy", "says nothing about what comes in")
    for rule in spec.get("ingress") or []:
        for source in rule.get("from") or [{}]:
            if not source.get("podSelector"):
                yield Finding("world", "NetworkPolicy", "a rule that lets everybody in")
