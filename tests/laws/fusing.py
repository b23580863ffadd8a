"""Run trials in this process, alone or fused, through the same folders as the real thing."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.checkpoint_reading import read_checkpoint
from rayft.engine.ports import OneRank
from rayft.errors import RayftError
from rayft.feed.kept import KeptRef
from rayft.models.model import make_model
from rayft.models.weights import LoadedWeights
from rayft.plan.trials import Ending, Report
from rayft.runtime.beginning import Beginning
from rayft.runtime.folder import RunFolder
from rayft.runtime.fused_unit import FusedJob, work_fused
from rayft.runtime.job import Job, work
from rayft.runtime.journal import FileJournal
from rayft.runtime.keep import keeping
from rayft.runtime.nodes import versions_here
from rayft.runtime.train import Silence
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from tests.laws.harness import make_spec, make_test_plan

MODEL: dict[str, Any] = make_spec().model_dump(mode="json")["model"]
CPU = torch.device("cpu")
TOLERANCE = 1e-5


def trial_spec(trial: int, *, head: Mapping[str, Any] | None = None, **changes: Any) -> RunSpec:
    """Return the spec of a trial that trains a head on kept features."""
    backbone = {**MODEL["backbone"], "weights": {"file": "given.safetensors"}}
    heads = {"label": {"kind": "classification", **(head or {})}}
    return make_spec(
        **{
            "name": f"trial-{trial:04d}",
            "augment": [],
            "model": {"backbone": backbone, "heads": heads},
            "phases": [phase()],
            "cache": {"mode": "require"},
            "scaling": {"num_workers": 0},
            **changes,
        }
    )


def phase(**changes: Any) -> dict[str, Any]:
    return {"name": "probe", "train": ["heads"], "for": "3 epochs", "lr": 0.01, **changes}


def given() -> LoadedWeights:
    """Return weights that stand for pretrained ones."""
    state = make_model(trial_spec(0).model, num_classes=3, seed=99).backbone.net.state_dict()
    return LoadedWeights(state=state, source="a test", sha256="")


@dataclass(frozen=True)
class Ended:
    """What is left of a trial."""

    events: list[dict[str, Any]]
    checkpoints: dict[str, dict[str, torch.Tensor]]
    """Tensors of heads and moments by checkpoint."""
    best: str
    result: dict[str, Any]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]


@dataclass
class Place:
    """A folder of trials, and what all of them share."""

    folder: Path
    prepared: PreparedDataset
    weights: LoadedWeights = field(default_factory=given)

    def folder_of(self, spec: RunSpec) -> RunFolder:
        return RunFolder(Location(str(self.folder)), spec.name)

    @contextmanager
    def job(self, spec: RunSpec) -> Iterator[Job]:
        """Begin an attempt at a trial, with its features kept."""
        plan, folder = make_test_plan(spec, self.prepared), self.folder_of(spec)
        beginning = Beginning(dataset=self.prepared.ref, weights=self.weights, folder=folder)
        with keeping(
            plan,
            beginning,
            store_root=Location(str(self.folder.parent / "stores")),
            environment=None,
            listener=Silence(),
        ) as kept:
            folder.sweep()
            yield _job(plan, self.prepared, kept, folder)

    def alone(self, *specs: RunSpec) -> list[Ended]:
        """Train each trial by itself."""
        for spec in specs:
            with self.job(spec) as job:
                try:
                    work(job, self.weights, ranks=OneRank(), device=CPU)
                except RayftError:
                    continue
        return [self.ended(spec) for spec in specs]

    def fused(
        self,
        *specs: RunSpec,
        on_epoch: Callable[[Sequence[Report]], frozenset[int]] = lambda reports: frozenset(),
        stop_after: int | None = None,
    ) -> list[Ending]:
        """Train trials together; stop after a number of steps where asked.

        Raises:
            Stopped: it was asked for.
        """
        return self.go_on(self.begin(*specs, stop_after=stop_after), on_epoch=on_epoch)

    def begin(self, *specs: RunSpec, stop_after: int | None = None) -> list[FusedJob]:
        """Begin an attempt at each trial."""
        jobs: list[FusedJob] = []
        for trial, spec in enumerate(specs):
            with self.job(spec) as job:
                jobs.append(FusedJob(trial=trial, job=job, events=Listening(job, stop_after)))
        return jobs

    def go_on(
        self,
        jobs: Sequence[FusedJob],
        *,
        on_epoch: Callable[[Sequence[Report]], frozenset[int]] = lambda reports: frozenset(),
    ) -> list[Ending]:
        """Train trials that have begun."""
        endings = list(work_fused(jobs, self.weights, device=CPU, on_epoch=on_epoch))
        return sorted(endings, key=lambda ending: ending.trial)

    def ended(self, spec: RunSpec) -> Ended:
        """Read what a trial has left."""
        folder = self.folder_of(spec)
        place = folder.place.path
        lines = (place / "journal.jsonl").read_text().splitlines()
        checkpoints = {}
        for found in sorted((place / "checkpoints").glob("step-*")):
            tensors = read_checkpoint(Location(str(found))).tensors
            heads = {k: v for k, v in tensors["model"].items() if k.startswith("heads.")}
            checkpoints[found.name] = heads | tensors.get("optimizer", {})
        best = place / "checkpoints" / "best"
        return Ended(
            events=[json.loads(line) for line in lines],
            checkpoints=checkpoints,
            best=best.read_text() if best.exists() else "",
            result=folder.result() or {},
        )


class Listening(FileJournal):
    """The journal of a trial, which asks it to stop after a number of steps."""

    def __init__(self, job: Job, stop_after: int | None) -> None:
        folder = job.folder
        super().__init__(
            (folder.place / "journal.jsonl").path,
            attempt=job.attempt,
            stop_file=folder.stop_file(job.attempt).path,
        )
        self._stop_after = stop_after
        self._steps = 0

    def stop_requested(self) -> bool:
        self._steps += 1
        return self._stop_after is not None and self._steps >= self._stop_after


def _job(plan: Any, prepared: PreparedDataset, kept: KeptRef, folder: RunFolder) -> Job:
    return Job(
        plan=plan,
        dataset=prepared.ref.to_json(),
        kept=kept.to_json(),
        storage_path=str(folder.place.parent),
        attempt=folder.begin_attempt(),
        versions=versions_here(),
    )


def assert_same(one: Ended, other: Ended) -> None:
    """Assert that two trials went the same way: reports, decisions, weights and figures."""
    for kind in ("phase", "progress", "epoch", "early_end", "finished"):
        found = [_close(e) for e in one.of_kind(kind)]
        assert found == [_close(e) for e in other.of_kind(kind)], kind
    assert_same_end(one, other)


def assert_same_end(one: Ended, other: Ended) -> None:
    """Assert that two trials ended in the same place, whatever happened on the way."""
    assert one.best == other.best
    assert {one.best, max(one.checkpoints)} <= other.checkpoints.keys()
    for name in (one.best, max(one.checkpoints)):
        tensors, others = one.checkpoints[name], other.checkpoints[name]
        assert tensors.keys() == others.keys()
        for key, value in tensors.items():
            assert torch.allclose(value, others[key], atol=TOLERANCE, rtol=TOLERANCE), key
    # Going on inside an epoch, the loss is that of the rows since then.
    assert _close(_without_loss(one.result)) == _close(_without_loss(other.result))


def _without_loss(result: dict[str, Any]) -> dict[str, Any]:
    metrics = {k: v for k, v in result.get("metrics", {}).items() if k != "train/loss"}
    return {**result, "metrics": metrics}


_OF_TIME = {"attempt", "time", "rows_per_s", "wait_fraction", "run", "seconds", "throughput"}


class _Number(float):
    """A number that equals those within the tolerance."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) <= TOLERANCE * max(1, abs(self))

    __hash__ = float.__hash__


def _close(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _close(v) for k, v in value.items() if k not in _OF_TIME and k != "checkpoint"}
    if isinstance(value, list):
        return [_close(each) for each in value]
    return _Number(value) if isinstance(value, float) else value
