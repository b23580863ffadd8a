"""The `ray up` files: Ray's own check, and ours."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.lint import lint_text, lint_yaml, main
from tests.cluster.lint_launcher import lint_launcher
from tests.cluster.templates import LAUNCHER, filled, launcher

ray_util = pytest.importorskip("ray.autoscaler._private.util")

Config = dict[str, Any]
HEAD, WORKER = "head_start_ray_commands", "worker_start_ray_commands"


def _as_ray_runs_it(config: Config) -> Config:
    """Return the configuration with Ray's defaults, checked by Ray."""
    prepared: Config = ray_util.prepare_config(copy.deepcopy(config))
    ray_util.validate_config(prepared)
    return prepared


@pytest.mark.parametrize("name", LAUNCHER)
def test_ray_accepts_a_template(name: str) -> None:
    config = launcher(name)

    prepared = _as_ray_runs_it(config)

    # Setup commands are merged, and Ray counts the machines of one's own itself.
    changed = {"available_node_types", "min_workers", "max_workers"}
    for key in config.keys() - changed - {k for k in config if "setup_commands" in k}:
        assert prepared[key] == config[key]


@pytest.mark.parametrize("name", LAUNCHER)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda config: config.update(idle_timeout_minute=20),
        lambda config: config["docker"].update(imge="x"),
        lambda config: config.update(idle_timeout_minutes="8"),
        lambda config: config.pop("provider"),
    ],
    ids=["top-level-typo", "docker-typo", "text-for-a-number", "no-provider"],
)
def test_ray_refuses_a_spoilt_template(name: str, spoil: Callable[[Config], object]) -> None:
    config = launcher(name)
    spoil(config)

    with pytest.raises(Exception, match=r"Additional properties|is not of type|provider|not an?"):
        _as_ray_runs_it(config)


@pytest.mark.parametrize("name", LAUNCHER)
def test_a_template_has_no_findings(name: str) -> None:
    assert lint_yaml(filled(name)) == []


@pytest.mark.parametrize("name", LAUNCHER)
def test_what_ray_makes_of_a_template_has_no_findings(name: str) -> None:
    prepared = _as_ray_runs_it(launcher(name))
    # Ray gives machines of one's own a type by which it knows them all.
    prepared.setdefault("min_workers", 0)
    if name == "onprem.yaml":
        prepared.pop("available_node_types")

    assert lint_launcher(prepared) == []


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_rays_own_defaults_have_findings(provider: str) -> None:
    import ray.autoscaler

    path = Path(ray.autoscaler.__file__).parent / provider / "defaults.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))

    found = {finding.rule for finding in lint_launcher(config)}

    assert found >= {
        "dashboard",
        "digest",
        "disk" if provider == "aws" else "spot",
        "idle",
        "privilege",
        "rights",
        "stop",
        "token",
        "token-file",
        "usage",
        "world",
    }


def _node(config: Config, name: str = "gpu_worker") -> Config:
    return config["available_node_types"][name]["node_config"]  # type: ignore[no-any-return]


def _replace(config: Config, key: str, old: str, new: str) -> None:
    spoilt = [command.replace(old, new) for command in config[key]]
    assert spoilt != config[key]
    config[key] = spoilt


def _options(config: Config, old: str, new: str) -> None:
    spoilt = [option.replace(old, new) for option in config["docker"]["run_options"]]
    assert spoilt != config["docker"]["run_options"]
    config["docker"]["run_options"] = spoilt


BAD: dict[str, tuple[str, str, Callable[[Config], object]]] = {
    "dashboard to the world": (
        "aws.yaml",
        "dashboard",
        lambda c: _replace(c, HEAD, "127.0.0.1", "0.0.0.0"),
    ),
    "dashboard left to ray": (
        "gcp.yaml",
        "dashboard",
        lambda c: _replace(c, HEAD, "--dashboard-host=127.0.0.1", ""),
    ),
    "dashboard twice": (
        "aws.yaml",
        "dashboard",
        lambda c: _replace(c, HEAD, "--port", "--dashboard-host=:: --port"),
    ),
    "no head commands": ("aws.yaml", "explicit", lambda c: c.pop(HEAD)),
    "no worker commands": ("onprem.yaml", "explicit", lambda c: c.pop(WORKER)),
    "no token": ("aws.yaml", "token", lambda c: _options(c, "RAY_AUTH_MODE=token", "A=b")),
    "token off": ("gcp.yaml", "token", lambda c: _options(c, "=token", "=disabled")),
    "token not sent": ("aws.yaml", "token-file", lambda c: c.update(file_mounts={})),
    "token in the repository": (
        "aws.yaml",
        "token-file",
        lambda c: c["file_mounts"].update({"/home/ray/.rayft": "secrets"}),
    ),
    "usage": (
        "gcp.yaml",
        "usage",
        lambda c: _replace(c, HEAD, "STATS_ENABLED=0", "STATS_ENABLED=1"),
    ),
    "stop": ("aws.yaml", "stop", lambda c: _replace(c, HEAD, "WAIT_TIME_S=60", "WAIT_TIME_S=3")),
    "idle too short": ("aws.yaml", "idle", lambda c: c.update(idle_timeout_minutes=5)),
    "idle not said": ("gcp.yaml", "idle", lambda c: c.pop("idle_timeout_minutes")),
    "workers at once": (
        "aws.yaml",
        "idle",
        lambda c: c["available_node_types"]["gpu_worker"].update(min_workers=1),
    ),
    "all machines at once": ("onprem.yaml", "idle", lambda c: c.pop("min_workers")),
    "no bound": ("aws.yaml", "max-workers", lambda c: c.pop("max_workers")),
    "no bound of a type": (
        "gcp.yaml",
        "max-workers",
        lambda c: c["available_node_types"]["cpu_worker"].pop("max_workers"),
    ),
    "stopped instances": (
        "aws.yaml",
        "stopped",
        lambda c: c["provider"].pop("cache_stopped_nodes"),
    ),
    "stopped machines": (
        "gcp.yaml",
        "stopped",
        lambda c: _node(c)["scheduling"].pop("instanceTerminationAction"),
    ),
    "a tag": ("aws.yaml", "digest", lambda c: c["docker"].update(image="rayft:1.2")),
    "another image for workers": (
        "aws.yaml",
        "digest",
        lambda c: c["docker"].update(worker_image="rayft:1.2"),
    ),
    "no container": ("onprem.yaml", "digest", lambda c: c.pop("docker")),
    "no machine image": ("aws.yaml", "digest", lambda c: _node(c).pop("ImageId")),
    "a family of images": (
        "gcp.yaml",
        "digest",
        lambda c: _node(c)["disks"][0]["initializeParams"].update(sourceImage="p/images/family/x"),
    ),
    "privileged": ("aws.yaml", "privilege", lambda c: _options(c, "--init", "--privileged")),
    "the docker socket": (
        "onprem.yaml",
        "privilege",
        lambda c: _options(c, "--init", "-v /var/run/docker.sock:/var/run/docker.sock"),
    ),
    "capabilities": ("gcp.yaml", "privilege", lambda c: _options(c, "--cap-drop=ALL", "--init")),
    "ssh from anywhere": (
        "aws.yaml",
        "world",
        lambda c: c["provider"].update(
            security_group={"IpPermissions": [{"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]}
        ),
    ),
    "ssh from anywhere, by the new protocol": (
        "aws.yaml",
        "world",
        lambda c: c["provider"].update(security_group={"IpPermissions": [{"CidrIpv6": "::/0"}]}),
    ),
    "ssh from half of the world": (
        "aws.yaml",
        "world",
        lambda c: c["provider"].update(security_group={"x": "128.0.0.0/1"}),
    ),
    "ray's security group": ("aws.yaml", "world", lambda c: _node(c).pop("SecurityGroupIds")),
    "the default network": ("gcp.yaml", "world", lambda c: _node(c).pop("networkInterfaces")),
    "metadata of version 1": ("aws.yaml", "metadata", lambda c: _node(c).pop("MetadataOptions")),
    "metadata for all containers": (
        "aws.yaml",
        "metadata",
        lambda c: _node(c)["MetadataOptions"].update(HttpPutResponseHopLimit=2),
    ),
    "plain disks": (
        "aws.yaml",
        "disk",
        lambda c: _node(c)["BlockDeviceMappings"][0]["Ebs"].pop("Encrypted"),
    ),
    "disks that stay": (
        "aws.yaml",
        "disk",
        lambda c: _node(c)["BlockDeviceMappings"][0]["Ebs"].update(DeleteOnTermination=False),
    ),
    "machine disks that stay": (
        "gcp.yaml",
        "disk",
        lambda c: _node(c)["disks"][0].pop("autoDelete"),
    ),
    "ray's profile": ("aws.yaml", "rights", lambda c: _node(c, "head").pop("IamInstanceProfile")),
    "the default account": ("gcp.yaml", "rights", lambda c: _node(c).pop("serviceAccounts")),
    "a spot head": (
        "aws.yaml",
        "spot",
        lambda c: _node(c, "head").update(InstanceMarketOptions={"MarketType": "spot"}),
    ),
    "workers at full price": ("gcp.yaml", "spot", lambda c: _node(c).pop("scheduling")),
    "another cloud": ("aws.yaml", "unknown", lambda c: c["provider"].update(type="azure")),
}


@pytest.mark.parametrize("case", BAD)
def test_a_rule_catches_its_bad_example(case: str) -> None:
    name, rule, spoil = BAD[case]
    # What a template shares between its parts is taken apart, so that one part can be spoilt.
    config = yaml.safe_load(yaml.dump(launcher(name), Dumper=_NoAliases))
    spoil(config)

    found = {finding.rule for finding in lint_launcher(config)}

    assert rule in found


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("run_options: [-e AWS_ACCESS_KEY_ID=AKIA0123456789ABCDEF]", "secret"),
        ("key: |\n  -----BEGIN OPENSSH PRIVATE KEY-----", "secret"),
        ("env: {RAY_AUTH_TOKEN: 3f0a5c7d9e1b2f4a6c8d0e1f2a3b4c5d}", "secret"),
        ("image: rayproject/ray:latest", "latest"),
        ("ImageId: latest_dlami", "latest"),
    ],
)
def test_the_text_is_searched_for_secrets_and_moving_names(line: str, rule: str) -> None:
    assert {finding.rule for finding in lint_text(line)} == {rule}


def test_the_linter_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "aws.yaml"
    file.write_text(filled("aws.yaml"), encoding="utf-8")
    assert main([str(file)]) == 0

    file.write_text(filled("aws.yaml").replace("127.0.0.1", "0.0.0.0"), encoding="utf-8")

    assert main([str(file)]) == 1
    assert capsys.readouterr().out.startswith(f"{file}: dashboard: head_start_ray_commands: ")
