"""Train a few steps in this process, without Ray, and look at every bit of the result."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rayft.data.prepare import PreparedDataset, prepare_dataset
from rayft.engine.build import make_run
from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.finish import finish
from rayft.engine.loop import train
from rayft.engine.ports import OneRank
from rayft.engine.run import Ports
from rayft.errors import Stopped
from rayft.feed.feed import InProcessFeed
from rayft.models.facts import model_facts
from rayft.plan.facts import ClusterFacts, Speeds
from rayft.plan.run_plan import RunPlan, make_plan
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from tests.laws.harness import Recorder, digest_of, make_spec, pictures
from tests.unit.models.families import Member


def few_pictures() -> Iterator[Any]:
    """Yield pictures for two steps of training and a batch of each evaluation."""
    yield from pictures(12)


def run_spec(member: Member, *, train: list[str]) -> RunSpec:
    """Return a spec of one epoch, two steps, in which `train` trains."""
    source = {"kind": "python", "function": f"{__name__}:few_pictures"}
    return make_spec(
        data={
            "train": source,
            "validation": {"fraction": 0.2},
            "test": {"fraction": 0.2},
            "image_size": member.size,
        },
        augment=[{"kind": "horizontal_flip"}],
        model={
            "backbone": member.spec.model_dump(),
            "heads": {"label": {"kind": "classification", "dropout": 0.1}},
        },
        phases=[{"name": "some", "train": train, "for": "1 epochs", "lr": 0.001}],
        optimizer={"kind": "sgd"},
        batch_norm="local",
        global_batch_size=3,
    )


def prepare_few(spec: RunSpec, folder: Path, size: int) -> PreparedDataset:
    """Build the row stores of a spec in this process."""
    return prepare_dataset(
        spec.data,
        base_dir=Path("/nowhere"),
        store_root=Location(str(folder)),
        image_size=size,
        stored_size=size,
        use_ray=False,
        on_progress=lambda done, total: None,
    )


def plan_for(spec: RunSpec, prepared: PreparedDataset) -> RunPlan:
    """Plan for one worker on a machine with enough of everything.

    An evaluation fills its last batch up; here it has no more rows than there are.
    """
    size = spec.data.image_size
    plan = make_plan(
        spec,
        model=model_facts(spec.model, num_classes=len(prepared.facts.classes), image_size=size),
        data=prepared.facts,
        cluster=ClusterFacts(
            cpus=8,
            gpus=0,
            memory_bytes=2**36,
            gpu_memory_bytes=0,
            max_cpus=8,
            max_gpus=0,
            cpu_bf16=False,
            gpu_bf16=None,
            device="cpu",
            disk_free_bytes=2**40,
        ),
        speeds=Speeds(prepare_rows_per_s=1e6, fp32_rows_per_s=1, bf16_rows_per_s=None),
    )
    return replace(plan, evaluation_rows=3)


@dataclass(frozen=True)
class Ended:
    """What a run came to."""

    digest: str
    """Hash over every bit that the future of the run depends on."""
    metrics: dict[str, float]


def train_here(
    plan: RunPlan, prepared: PreparedDataset, folder: Path, *, stop_after: int | None = None
) -> Ended | None:
    """Train to the end and evaluate on the test split; None where it was to stop before."""
    dataset = open_dataset(prepared.ref)
    run = make_run(
        plan,
        data_fingerprint=dataset.fingerprint,
        weights=None,
        device=torch.device("cpu"),
        ports=Ports(
            feed=InProcessFeed(plan, dataset, rank=0),
            ranks=OneRank(),
            events=Recorder(stop_after=stop_after),
            checkpoints=CheckpointFolder(Location(str(folder)), keep=1),
        ),
    )
    try:
        train(run)
    except Stopped:
        return None
    digest = digest_of(run)
    return Ended(digest, finish(run).metrics)
