"""The rules for `ray up` files."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from tests.cluster.findings import DIGEST, Finding, open_networks

Config = Mapping[str, Any]

LEAST_IDLE_MINUTES = 16
"""Twice the eight minutes that a worker may take to boot and to pull the image."""
MOST_IDLE_MINUTES = 60
LEAST_STOP_S = 60
MOST_WORKERS = 64

_FORBIDDEN = re.compile(
    r"--privileged|docker\.sock|--cap-add|--pid[ =]host|seccomp[=:]unconfined|--user[ =]root\b"
)


def lint_launcher(config: Config) -> list[Finding]:
    """Return what is unsafe or dear in a `ray up` configuration."""
    rules: list[Callable[[Config], Iterator[Finding]]] = [
        _commands,
        _token,
        _limits,
        _containers,
        lambda config: open_networks(config),
        _nodes,
    ]
    return [finding for rule in rules for finding in rule(config)]


def _joined(config: Config, key: str) -> str:
    return " ".join(config.get(key) or [])


def _commands(config: Config) -> Iterator[Finding]:
    head = _joined(config, "head_start_ray_commands")
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        if not config.get(key):
            yield Finding("explicit", key, "left to Ray, whose own bind the dashboard to 0.0.0.0")
    hosts = re.findall(r"--dashboard-host[ =](\S+)", head)
    if hosts not in (["127.0.0.1"], ["localhost"]):
        yield Finding("dashboard", "head_start_ray_commands", f"bound to {hosts}, not to loopback")
    if not re.search(r"RAY_USAGE_STATS_ENABLED=0\b", head):
        yield Finding("usage", "head_start_ray_commands", "`ray up` decides on usage statistics")
    wait = re.search(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+)", head)
    if not wait or int(wait[1]) < LEAST_STOP_S:
        yield Finding("stop", "head_start_ray_commands", "`ray job stop` kills before a run saved")


def _token(config: Config) -> Iterator[Finding]:
    everywhere = " ".join(config.get("docker", {}).get("run_options") or [])
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        if not re.search(r"RAY_AUTH_MODE=token\b", everywhere + _joined(config, key)):
            yield Finding("token", key, "whoever reaches a port may run code: RAY_AUTH_MODE=token")
    mounts = config.get("file_mounts") or {}
    path = re.search(r"RAY_AUTH_TOKEN_PATH=(\S+)", everywhere)
    source = next((mounts[m] for m in mounts if path and path[1].startswith(f"{m}/")), None)
    if source is None:
        yield Finding("token-file", "file_mounts", "the token's file does not reach the nodes")
    elif not source.startswith(("~", "/")):
        yield Finding("token-file", "file_mounts", f"{source} lies in the repository")


def _limits(config: Config) -> Iterator[Finding]:
    idle = config.get("idle_timeout_minutes", 5)  # what Ray puts there
    if not LEAST_IDLE_MINUTES <= idle <= MOST_IDLE_MINUTES:
        yield Finding("idle", "idle_timeout_minutes", f"{idle}: shorter than two boots, or dear")
    if not 0 < config.get("max_workers", 0) <= MOST_WORKERS:
        yield Finding("max-workers", "max_workers", "no bound on what the cluster may cost")
    for name, node in _node_types(config).items():
        if node.get("min_workers", 0):
            yield Finding("idle", name, "min_workers keeps machines running that nobody uses")
        if "max_workers" not in node:
            yield Finding("max-workers", name, "no bound of its own")
    if config["provider"]["type"] == "local" and config.get("min_workers", 1):
        yield Finding("idle", "min_workers", "without `min_workers: 0` all workers are started")
    if config["provider"]["type"] == "aws" and config["provider"].get("cache_stopped_nodes", True):
        yield Finding("stopped", "provider", "stopped instances go on paying for their disks")


def _containers(config: Config) -> Iterator[Finding]:
    docker = config.get("docker") or {}
    images = [docker.get(key) for key in ("image", "head_image", "worker_image") if key in docker]
    for image in images or [None]:
        if not image or not DIGEST.match(image):
            yield Finding("digest", "docker", f"image {image} is not named by its digest")
    options = " ".join(
        option
        for key in ("run_options", "head_run_options", "worker_run_options")
        for option in docker.get(key) or []
    )
    for found in _FORBIDDEN.findall(options):
        yield Finding("privilege", "docker.run_options", f"{found} gives the container the host")
    for needed in ("--cap-drop=ALL", "--security-opt=no-new-privileges"):
        if needed not in options:
            yield Finding("privilege", "docker.run_options", f"without {needed}")


def _node_types(config: Config) -> Mapping[str, Config]:
    return cast(Mapping[str, Config], config.get("available_node_types") or {})


def _nodes(config: Config) -> Iterator[Finding]:
    provider = config["provider"]["type"]
    for name, node in _node_types(config).items():
        is_head = name == config.get("head_node_type")
        settings = node.get("node_config") or {}
        match provider:
            case "aws":
                yield from _on_aws(name, settings, is_head=is_head)
            case "gcp":
                yield from _on_gcp(name, settings, is_head=is_head)
            case "local":
                pass
            case _:
                yield Finding("unknown", name, f"no rule knows machines of {provider}")


def _on_aws(name: str, node: Config, *, is_head: bool) -> Iterator[Finding]:
    if not node.get("SecurityGroupIds") and not node.get("NetworkInterfaces"):
        # Also with provider.security_group: its rules are added to Ray's own, which has 0.0.0.0/0.
        yield Finding("world", name, "Ray makes a security group with port 22 open to the world")
    metadata = node.get("MetadataOptions") or {}
    if metadata.get("HttpTokens") != "required" or metadata.get("HttpPutResponseHopLimit") != 1:
        yield Finding("metadata", name, "version 2 of the metadata service only, within one hop")
    volumes = [disk["Ebs"] for disk in node.get("BlockDeviceMappings") or [] if "Ebs" in disk]
    if not volumes or not all(volume.get("Encrypted") is True for volume in volumes):
        yield Finding("disk", name, "a disk that is not encrypted")
    if not all(volume.get("DeleteOnTermination") is True for volume in volumes):
        yield Finding("disk", name, "a disk that outlives its machine")
    if not node.get("IamInstanceProfile"):
        yield Finding("rights", name, "Ray's own profile may do anything with EC2 and S3")
    if not re.match(r"ami-[0-9a-f]+$", node.get("ImageId") or ""):
        yield Finding("digest", name, "left to Ray, which has an old system's image")
    market = (node.get("InstanceMarketOptions") or {}).get("MarketType")
    yield from _spot(name, spot=market == "spot", is_head=is_head)


def _on_gcp(name: str, node: Config, *, is_head: bool) -> Iterator[Finding]:
    interfaces = node.get("networkInterfaces") or []
    if not interfaces or any("/default" in i.get("subnetwork", "/default") for i in interfaces):
        yield Finding("world", name, "the default network has port 22 open to the world")
    accounts = [account.get("email", "") for account in node.get("serviceAccounts") or []]
    if not accounts or any("compute@developer" in email for email in accounts):
        yield Finding("rights", name, "without an account of its own it may do too much")
    for disk in node.get("disks") or [{}]:
        source = (disk.get("initializeParams") or {}).get("sourceImage", "")
        if not source or "/family/" in source:
            yield Finding("digest", name, f"image {source!r} changes; name one of the family")
        if disk.get("autoDelete") is not True:
            yield Finding("disk", name, "a disk that outlives its machine")
    scheduling = node.get("scheduling") or {}
    spot = isinstance(scheduling, dict) and scheduling.get("provisioningModel") == "SPOT"
    yield from _spot(name, spot=spot, is_head=is_head)
    if spot and scheduling.get("instanceTerminationAction") != "DELETE":
        yield Finding("stopped", name, "a machine taken back goes on paying for its disk")


def _spot(name: str, *, spot: bool, is_head: bool) -> Iterator[Finding]:
    if is_head and spot:
        yield Finding("spot", name, "the cluster ends when the head is taken back")
    if not is_head and not spot:
        yield Finding("spot", name, "at full price, though lost workers are replaced")
