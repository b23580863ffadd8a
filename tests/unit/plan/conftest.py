"""Facts and specs small enough to check by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from rayft.plan.facts import (
    ClusterFacts,
    DataFacts,
    GroupFacts,
    ModelFacts,
    ParamFacts,
    Speeds,
)
from rayft.plan.run_plan import RunPlan, make_plan
from rayft.spec.run import RunSpec

GROUPS = ("stem", "layer1", "layer2", "layer3", "layer4")


def _group(name: str, prefix: str) -> GroupFacts:
    return GroupFacts(
        name=name,
        params=(
            ParamFacts(name=f"{prefix}.conv.weight", size=100, kind="weight"),
            ParamFacts(name=f"{prefix}.bn.weight", size=10, kind="norm"),
            ParamFacts(name=f"{prefix}.bn.bias", size=10, kind="norm"),
        ),
        activation_bytes_per_row=1000,
        flops_per_row=1000,
    )


@pytest.fixture(scope="session")
def model_facts() -> ModelFacts:
    return ModelFacts(
        backbone="torchvision/resnet18",
        groups=tuple(_group(name, f"backbone.net.{name}") for name in GROUPS),
        heads=(
            GroupFacts(
                name="label",
                params=(
                    ParamFacts(name="heads.label.weight", size=50, kind="weight"),
                    ParamFacts(name="heads.label.bias", size=5, kind="bias"),
                ),
                activation_bytes_per_row=20,
                flops_per_row=50,
            ),
        ),
        feature_dim=10,
        image_size=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        weights="random",
        pretrained=True,
    )


def cluster(**changes: Any) -> ClusterFacts:
    facts: dict[str, Any] = {
        "cpus": 8.0,
        "gpus": 0.0,
        "memory_bytes": 16 * 2**30,
        "gpu_memory_bytes": 0,
        "max_cpus": 8.0,
        "max_gpus": 0.0,
        "cpu_bf16": False,
        "gpu_bf16": None,
        "device": "cpu",
        "disk_free_bytes": 2**40,
    }
    return ClusterFacts(**(facts | changes))


def data(train: int = 103, validation: int = 20) -> DataFacts:
    return DataFacts(
        classes=("cat", "dog"),
        counts={"train": (train - 3, 3), "validation": (validation // 2, validation // 2)},
        exact=True,
        num_bad_rows=0,
        stored_bytes=1000,
        stored_as="decoded",
        rows_per_shard=10,
        num_shards=13,
        train_bytes=1000,
    )


def spec(**changes: Any) -> RunSpec:
    raw: dict[str, Any] = {
        "name": "test",
        "data": {"train": {"kind": "folder", "path": "photos"}, "validation": {"fraction": 0.2}},
        "model": {
            "backbone": {"kind": "torchvision", "name": "resnet18"},
            "heads": {"label": {"kind": "classification"}},
        },
        "phases": [
            {"name": "probe", "train": ["heads"], "for": "2 epochs", "lr": 0.01},
            {
                "name": "finetune",
                "train": ["heads", "last 2"],
                "for": "15 steps",
                "lr": {"heads": 0.001, "backbone": 0.0003, "decay": 0.5},
            },
        ],
        "global_batch_size": 10,
    }
    return RunSpec.model_validate(raw | changes)


_OF_THE_CLUSTER = (
    "cpus",
    "gpus",
    "max_cpus",
    "max_gpus",
    "memory_bytes",
    "cpu_bf16",
    "gpu_bf16",
    "unusable_gpus",
)
FAST = Speeds(prepare_rows_per_s=100_000, fp32_rows_per_s=100, bf16_rows_per_s=None)


@pytest.fixture
def planned(model_facts: ModelFacts) -> Callable[..., RunPlan]:
    """Return a function that plans a spec with changes, on a cluster of 8 CPUs."""

    def plan(speeds: Speeds = FAST, **changes: Any) -> RunPlan:
        where = {name: changes.pop(name) for name in _OF_THE_CLUSTER if name in changes}
        rows = changes.pop("rows", 103)
        return make_plan(
            spec(**changes),
            model=model_facts,
            data=data(rows),
            cluster=cluster(**where),
            speeds=speeds,
        )

    return plan
