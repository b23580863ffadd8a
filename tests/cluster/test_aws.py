"""The AWS files against a simulated AWS: the stack, what Ray makes of it, and the machines."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.findings import open_networks
from tests.cluster.templates import CLUSTER, SETTINGS, launcher

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto")
ray_util = pytest.importorskip("ray.autoscaler._private.util")

REGION = "us-west-2"
PUBLIC_IMAGE = (
    "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
)
IMAGE_OF_MACHINES = "/rayft/ami"
TEMPLATE = (CLUSTER / "aws-account.yaml").read_text(encoding="utf-8")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    # Ray writes the key pair that it makes below the home folder.
    monkeypatch.setenv("HOME", str(tmp_path))
    with moto.mock_aws():
        _forget_clients()
        yield
    _forget_clients()


def _forget_clients() -> None:
    from ray.autoscaler._private.aws import config, utils

    for remembered in (utils.resource_cache, utils.client_cache, config._get_subnets_or_die):
        remembered.cache_clear()


def _settings_of_stack() -> Mapping[str, str]:
    """Make the stack and return its settings, as the README's command puts them out."""
    (image, *_) = boto3.client("ec2").describe_images()["Images"]
    boto3.client("ssm").put_parameter(
        Name=IMAGE_OF_MACHINES, Value=image["ImageId"], Type="String", DataType="aws:ec2:image"
    )
    stacks = boto3.client("cloudformation")
    # The simulation has none of the public parameters.
    template = TEMPLATE.replace(PUBLIC_IMAGE, IMAGE_OF_MACHINES)
    assert template != TEMPLATE
    stacks.create_stack(
        StackName="rayft",
        TemplateBody=template,
        Parameters=[{"ParameterKey": "Cidr", "ParameterValue": "198.51.100.7/32"}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    (stack,) = stacks.describe_stacks(StackName="rayft")["Stacks"]
    (text,) = [o["OutputValue"] for o in stack["Outputs"] if o["OutputKey"] == "Settings"]
    return dict(setting.split("=", 1) for setting in text.split())


def _bootstrapped(config: Mapping[str, Any]) -> dict[str, Any]:
    """Let Ray do what `ray up` does before it starts a machine."""
    from ray.autoscaler._private.aws.config import bootstrap_aws

    prepared = ray_util.prepare_config(copy.deepcopy(config))
    ray_util.validate_config(prepared)
    return bootstrap_aws(prepared)  # type: ignore[no-any-return]


def _groups() -> list[dict[str, Any]]:
    return boto3.client("ec2").describe_security_groups()["SecurityGroups"]  # type: ignore[no-any-return]


def _started(config: Mapping[str, Any], node_type: str) -> dict[str, Any]:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    node = config["available_node_types"][node_type]["node_config"]
    (name,) = provider.create_node(node, {}, 1)
    reservations = boto3.client("ec2").describe_instances(InstanceIds=[name])["Reservations"]
    return reservations[0]["Instances"][0]  # type: ignore[no-any-return]


def test_the_stack_gives_every_setting_but_the_image(aws: None) -> None:
    settings = _settings_of_stack()

    config = launcher("aws.yaml", {"RAYFT_IMAGE": SETTINGS["RAYFT_IMAGE"], **settings})

    assert config["provider"]["region"] == REGION
    assert len(config["available_node_types"]["head"]["node_config"]["SubnetIds"]) == 2


def test_only_the_named_network_may_come_in(aws: None) -> None:
    settings = {**SETTINGS, **_settings_of_stack()}

    _bootstrapped(launcher("aws.yaml", settings))

    (group,) = [g for g in _groups() if g["GroupId"] == settings["RAYFT_SECURITY_GROUP"]]
    assert [f for g in _groups() for f in open_networks(g["IpPermissions"])] == []
    networks = [r["CidrIp"] for rule in group["IpPermissions"] for r in rule["IpRanges"]]
    assert networks == ["198.51.100.7/32"]


def test_rays_own_group_is_open_whatever_its_setting_says(aws: None) -> None:
    """Why the group is named by its id, and provider.security_group is not used."""
    config = launcher("aws.yaml", {**SETTINGS, **_settings_of_stack()})
    for node_type in config["available_node_types"].values():
        del node_type["node_config"]["SecurityGroupIds"]
    rule = {"FromPort": 22, "ToPort": 22, "IpProtocol": "tcp"}
    config["provider"]["security_group"] = {
        "GroupName": "rayft",
        "IpPermissions": [{**rule, "IpRanges": [{"CidrIp": "198.51.100.7/32"}]}],
    }

    _bootstrapped(config)

    (group,) = [g for g in _groups() if g["GroupName"] == "rayft"]
    assert len(list(open_networks(group["IpPermissions"]))) == 1


def test_ray_makes_no_profile_of_its_own(aws: None) -> None:
    _bootstrapped(launcher("aws.yaml", {**SETTINGS, **_settings_of_stack()}))

    profiles = boto3.client("iam").list_instance_profiles()["InstanceProfiles"]
    assert {profile["InstanceProfileName"] for profile in profiles} == {
        "rayft-head",
        "rayft-worker",
    }


@pytest.mark.parametrize("node_type", ["head", "gpu_worker", "cpu_worker"])
def test_a_machine_is_started_as_the_file_says(node_type: str, aws: None) -> None:
    settings = {**SETTINGS, **_settings_of_stack()}
    config = _bootstrapped(launcher("aws.yaml", settings))

    machine = _started(config, node_type)

    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    assert machine["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert machine["ImageId"] == settings["RAYFT_AMI"]
    assert [group["GroupId"] for group in machine["SecurityGroups"]] == [
        settings["RAYFT_SECURITY_GROUP"]
    ]
    role = "rayft-head" if node_type == "head" else "rayft-worker"
    assert machine["IamInstanceProfile"]["Arn"].endswith(f"/{role}")
    assert ("InstanceLifecycle" in machine) == (node_type != "head")
    disks = [disk["Ebs"]["VolumeId"] for disk in machine["BlockDeviceMappings"]]
    volumes = boto3.client("ec2").describe_volumes(VolumeIds=disks)["Volumes"]
    assert [volume["Encrypted"] for volume in volumes] == [True]


def _policy(name: str) -> list[dict[str, Any]]:
    class Loader(yaml.SafeLoader):
        """Reads CloudFormation's functions as their arguments."""

    def read(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> object:
        match node:
            case yaml.ScalarNode():
                return loader.construct_scalar(node)
            case yaml.SequenceNode():
                return loader.construct_sequence(node)
            case _:
                raise AssertionError(node)

    Loader.add_multi_constructor("!", read)
    resources = yaml.load(TEMPLATE, Loader=Loader)["Resources"]
    return resources[name]["Properties"]["PolicyDocument"]["Statement"]  # type: ignore[no-any-return]


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize("name", ["HeadPolicy", "NodePolicy"])
def test_a_right_is_named_and_bound_to_something(name: str) -> None:
    without_a_place = {"ec2:DescribeInstances", "ecr:GetAuthorizationToken"}
    for statement in _policy(name):
        actions = _listed(statement["Action"])

        assert not [action for action in actions if "*" in action]
        bound = "Condition" in statement or "*" not in _listed(statement["Resource"])
        assert bound or set(actions) <= without_a_place


def test_the_head_may_end_only_machines_of_its_cluster() -> None:
    name = launcher("aws.yaml")["cluster_name"]
    ends = [s for s in _policy("HeadPolicy") if "ec2:TerminateInstances" in _listed(s["Action"])]

    (statement,) = ends

    assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": name}}


def test_the_stack_passes_amazons_own_check() -> None:
    api = pytest.importorskip("cfnlint.api")

    assert [str(match) for match in api.lint(TEMPLATE, api.ManualArgs(regions=[REGION]))] == []


def test_a_network_of_everybody_is_no_parameter() -> None:
    import re

    pattern = re.compile(r"AllowedPattern: \"(.*)\"")
    (text,) = pattern.findall(TEMPLATE)
    allowed = re.compile(text.replace("\\\\", "\\"))

    assert allowed.fullmatch("198.51.100.7/32")
    assert allowed.fullmatch("10.1.0.0/16")
    for everybody in ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/8", "1.2.3.4", "10.0.0.0/15"):
        assert not allowed.fullmatch(everybody)
