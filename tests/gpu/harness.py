"""Run the engine in this process on a device, without Ray."""

from pathlib import Path
from typing import Any

import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.build import make_run
from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.ports import Events, OneRank, Ranks
from rayft.engine.run import Ports, Run
from rayft.feed.feed import InProcessFeed
from rayft.models.facts import model_facts
from rayft.plan.facts import ClusterFacts, Speeds
from rayft.plan.run_plan import RunPlan, make_plan
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from tests.laws.harness import make_spec

DEVICE = "cuda"


def spec_on_device(**changes: Any) -> RunSpec:
    """Return the laws' spec, for the calling process and `DEVICE`.

    SGD, because AdamW divides a gradient by its size: where that is nearly 0, the last bits, which
    a GPU does not repeat, decide the whole step.
    """
    fixed = {"scaling": {"num_workers": 0}, "device": DEVICE, "optimizer": {"kind": "sgd"}}
    return make_spec(**fixed | changes)


def plan_on_device(spec: RunSpec, prepared: PreparedDataset, *, cpus: int = 2) -> RunPlan:
    """Plan for this machine's device; `spec` names it."""
    on_gpu = spec.device == "cuda"
    memory = torch.cuda.get_device_properties(0).total_memory if on_gpu else 0
    classes, size = prepared.facts.classes, spec.data.image_size
    return make_plan(
        spec,
        model=model_facts(spec.model, num_classes=len(classes), image_size=size),
        data=prepared.facts,
        cluster=ClusterFacts(
            cpus=cpus,
            gpus=float(on_gpu),
            memory_bytes=2**36,
            gpu_memory_bytes=memory,
            max_cpus=cpus,
            max_gpus=float(on_gpu),
            cpu_bf16=True,
            gpu_bf16=True,
            device="cuda" if on_gpu else "cpu",
            disk_free_bytes=2**40,
        ),
        speeds=Speeds(prepare_rows_per_s=1e6, fp32_rows_per_s=1, bf16_rows_per_s=None),
    )


def start_run(
    plan: RunPlan,
    prepared: PreparedDataset,
    checkpoints: Path,
    *,
    events: Events,
    ranks: Ranks | None = None,
) -> Run:
    """Begin a run, or take it up where its checkpoints stand."""
    dataset = open_dataset(prepared.ref)
    return make_run(
        plan,
        data_fingerprint=dataset.fingerprint,
        weights=None,
        device=torch.device(plan.resources.device),
        ports=Ports(
            feed=InProcessFeed(plan, dataset, rank=0),
            ranks=ranks or OneRank(),
            events=events,
            checkpoints=CheckpointFolder(Location(str(checkpoints))),
        ),
    )
