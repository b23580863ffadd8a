"""Run the engine on 1, 2 or 4 gloo processes, without Ray, and look at every bit of the result.

Processes are forked from a server that has torch loaded, so a group starts in about a second.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from rayft.data.prepare import PreparedDataset, prepare_dataset
from rayft.engine.build import make_run
from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.finish import Outcome, finish, finish_stage
from rayft.engine.loop import train
from rayft.engine.ports import OneRank
from rayft.engine.ranks import DistributedRanks
from rayft.engine.run import Ports, Run
from rayft.errors import RayftError, Stopped
from rayft.feed.feed import InProcessFeed
from rayft.feed.kept import Kept, KeptRef
from rayft.models.facts import model_facts
from rayft.models.weights import LoadedWeights
from rayft.plan.facts import ClusterFacts, Speeds
from rayft.plan.run_plan import RunPlan, make_plan
from rayft.plan.stage_keys import stage_plan
from rayft.runtime.beginning import Beginning
from rayft.runtime.folder import RunFolder
from rayft.runtime.keep import Listener, keeping
from rayft.runtime.train import Silence
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.dataset import DatasetRef, open_dataset

SIZE = 32
NOTHING_KEPT = KeptRef(phases={}, rows_made=0)
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([__name__])


def pictures(num_rows: int = 90) -> Any:
    """Yield small pictures whose class is the place of a bright stripe."""
    rng = np.random.Generator(np.random.Philox(7))
    for number in range(num_rows):
        label = number % 3
        image = rng.integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
        image[10 * label : 10 * label + 8] += 100
        yield {"image": image, "label": f"stripe{label}"}


def make_spec(**changes: Any) -> RunSpec:
    """Return a spec of two phases on a network of 100,000 parameters."""
    raw: dict[str, Any] = {
        "name": "run",
        "seed": 3,
        "data": {
            "train": {"kind": "python", "function": f"{__name__}:pictures"},
            "validation": {"fraction": 0.2},
            "test": {"fraction": 0.15},
            "image_size": SIZE,
        },
        "augment": [
            {"kind": "horizontal_flip"},
            {"kind": "random_crop", "padding": 3},
        ],
        "model": {
            "backbone": {"kind": "timm", "name": "test_efficientnet", "weights": "none"},
            "heads": {"label": {"kind": "classification"}},
        },
        "phases": [
            {"name": "probe", "train": ["heads"], "for": "1 epochs", "lr": 0.01},
            {
                "name": "finetune",
                "train": ["heads", "last 3"],
                "for": "2 epochs",
                "lr": {"heads": 0.002, "backbone": 0.001, "decay": 0.7},
            },
        ],
        "global_batch_size": 16,
        "precision": "fp32",
        "checkpoint": {"interval_s": 1e9},
        "scaling": {"num_workers": 1, "resources_per_worker": {"CPU": 1}},
    }
    return RunSpec.model_validate(raw | changes)


def prepare(spec: RunSpec, folder: Path | Location) -> PreparedDataset:
    """Build the row store of a spec in this process."""
    return prepare_dataset(
        spec.data,
        base_dir=Path("/nowhere"),
        store_root=Location(str(folder)),
        image_size=SIZE,
        stored_size=SIZE,
        use_ray=False,
        on_progress=lambda done, total: None,
    )


def make_test_plan(spec: RunSpec, prepared: PreparedDataset) -> RunPlan:
    """Plan for a machine with enough of everything."""
    return make_plan(
        spec,
        model=model_facts(
            spec.model,
            num_classes=len(prepared.facts.classes),
            image_size=SIZE,
            channels=spec.data.channels,
        ),
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


@contextmanager
def keep(
    spec: RunSpec,
    prepared: PreparedDataset,
    folder: Path | Location,
    *,
    on_ray: bool = False,
    listener: Listener | None = None,
    weights: LoadedWeights | None = None,
    stops_before: int = 0,
) -> Iterator[KeptRef]:
    """Keep what the frozen layers of a spec's phases make, below a folder."""
    plan = stage_plan(make_test_plan(spec, prepared), stops_before)
    place = Location(str(folder))
    run = RunFolder(place, spec.name)
    with keeping(
        plan,
        Beginning(dataset=prepared.ref, weights=weights, folder=run),
        store_root=place / "stores",
        environment={} if on_ray else None,
        listener=listener or Silence(),
    ) as kept:
        yield kept


@dataclass
class Recorder:
    """Events that remember, and on demand stop, or kill the process, after a number of steps."""

    stop_after: int | None = None
    kill_after: int | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0

    def emit(self, kind: str, values: Mapping[str, Any]) -> None:
        self.events.append({"kind": kind, **values})

    def stop_requested(self) -> bool:
        # Asked once after every step: a place to die between two of them.
        self.steps += 1
        if self.steps == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.stop_after is not None and self.steps >= self.stop_after


@dataclass(frozen=True)
class Result:
    """What a group of processes came to."""

    digest: str
    """Hash over every bit of model, optimizer, averages and policies."""
    state: dict[str, np.ndarray]
    metrics: dict[str, float]
    events: list[dict[str, Any]]
    rows: list[tuple[int, int, tuple[int, ...]]]
    """Phase, step, and rows that counted, of this attempt, over all ranks."""
    error: str = ""


class Rows(InProcessFeed):
    """A feed that notes which rows counted in which step."""

    noted: list[tuple[int, int, tuple[int, ...]]]

    def training(self, phase: Any, *, start_step: int) -> Any:
        from contextlib import contextmanager

        self.noted = getattr(self, "noted", [])

        @contextmanager
        def opened() -> Any:
            with InProcessFeed.training(self, phase, start_step=start_step) as steps:
                yield self._note(steps)

        return opened()

    def _note(self, steps: Any) -> Any:
        for shards in steps:
            counted = [int(row) for b in shards for row in b.ticket.row_ids[: b.ticket.num_rows]]
            self.noted.append((shards[0].ticket.phase, shards[0].ticket.step, tuple(counted)))
            yield shards


def digest_of(run: Run) -> str:
    """Return a hash over every bit that the future of a run depends on."""
    snapshot = run.snapshot()
    digest = hashlib.sha256()
    for kind, tensors in sorted(snapshot.tensors.items()):
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{kind} {name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    digest.update(json.dumps(snapshot.manifest["position"], sort_keys=True).encode())
    digest.update(json.dumps(snapshot.manifest["policies"], sort_keys=True).encode())
    return digest.hexdigest()


def run_group(
    spec: RunSpec,
    prepared: PreparedDataset,
    checkpoints: Path | Location,
    *,
    stop_after: int | None = None,
    kill_after: int | None = None,
    weights: LoadedWeights | None = None,
    kept: KeptRef = NOTHING_KEPT,
    stops_before: int = 0,
) -> Result | None:
    """Train with as many processes as the spec has workers; None where rank 0 was killed."""
    plan = stage_plan(make_test_plan(spec, prepared), stops_before)
    world_size = plan.resources.world_size
    with tempfile.TemporaryDirectory() as meeting:
        pipes, processes = [], []
        for rank in range(world_size):
            receive, send = _SERVER.Pipe(duplex=False)
            process = _SERVER.Process(
                target=_worker,
                args=(rank, plan, prepared.ref.to_json(), str(checkpoints), meeting, send),
                kwargs={
                    "stop_after": stop_after,
                    "kill_after": kill_after,
                    "weights": weights,
                    "kept": kept,
                    "finish": finish_stage if stops_before else finish,
                    "environment": _storage_environment(),
                },
            )
            process.start()
            send.close()
            pipes.append(receive)
            processes.append(process)
        try:
            return _collect(pipes)
        finally:
            for process in processes:
                process.kill()
                process.join()


def _storage_environment() -> dict[str, str]:
    """Return what the server of processes, started earlier, may not have inherited."""
    return {
        name: value for name, value in os.environ.items() if name.startswith(("AWS_", "RAYFT_"))
    }


def _collect(pipes: list[Connection]) -> Result | None:
    results: list[Result] = []
    for rank, pipe in enumerate(pipes):
        try:
            if rank and results[0].error:
                # Ranks wait for each other; the first error ends the group.
                break
            results.append(pipe.recv())
        except EOFError:
            return None
    rows: dict[tuple[int, int], tuple[int, ...]] = {}
    for result in results:
        for phase, step, counted in result.rows:
            rows[phase, step] = rows.get((phase, step), ()) + counted
    return replace(results[0], rows=[(*key, counted) for key, counted in sorted(rows.items())])


def _worker(
    rank: int,
    plan: RunPlan,
    ref: str,
    checkpoints: str,
    meeting: str,
    send: Connection,
    *,
    stop_after: int | None,
    kill_after: int | None,
    weights: LoadedWeights | None,
    kept: KeptRef,
    finish: Callable[[Run], Outcome],
    environment: dict[str, str],
) -> None:
    os.environ.update(environment)
    world_size = plan.resources.world_size
    device = torch.device("cpu")
    torch.set_num_threads(1)
    if world_size > 1:
        store = dist.FileStore(f"{meeting}/store", world_size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    ranks = DistributedRanks(device) if world_size > 1 else OneRank()
    events = Recorder(stop_after=stop_after, kill_after=kill_after)
    dataset = open_dataset(DatasetRef.from_json(ref))
    feed = Rows(plan, dataset, rank=rank, kept=Kept(kept, dataset))
    run = make_run(
        plan,
        data_fingerprint=dataset.fingerprint,
        weights=weights,
        device=device,
        ports=Ports(
            feed=feed,
            ranks=ranks,
            events=events,
            checkpoints=CheckpointFolder(Location(checkpoints), keep=plan.spec.checkpoint.keep),
        ),
    )
    error, metrics, digest = "", {}, ""
    try:
        train(run)
        digest = digest_of(run)
        metrics = finish(run).metrics
    except Stopped:
        error = "stopped"
    except RayftError as caught:
        error = str(caught)
    state = {name: value.numpy().copy() for name, value in run.model.state_dict().items()}
    send.send(
        Result(
            digest=digest,
            state=state,
            metrics=metrics,
            events=events.events,
            rows=getattr(feed, "noted", []),
            error=error,
        )
    )
    send.close()
