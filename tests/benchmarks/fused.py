"""What it saves to train heads fused: 32 of them together, against one after another.

    python -m tests.benchmarks.fused [--trials 32] [--epochs 10] [--dropout none|same|many]

Heads of MobileNetV2 at 96 px on 10,000 rows of CIFAR-10. Both sides run in this process, from
features that were kept beforehand and through the code that workers run: folders, journals,
evaluation at the end of every epoch, checkpoints and results are in the figures. Trials differ in
rate, weight decay and label smoothing; with `--dropout same` all drop the same places, with `many`
there are five shares of dropout among them.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from rayft.data.prepare import PreparedDataset
from rayft.engine.ports import OneRank
from rayft.models.weights import LoadedWeights
from rayft.plan.fusing import fuse_key, why_not
from rayft.plan.run_plan import RunPlan
from rayft.runtime.allocator import keep_freed_memory
from rayft.runtime.beginning import Beginning
from rayft.runtime.folder import RunFolder
from rayft.runtime.fused_unit import FusedJob, work_fused
from rayft.runtime.job import Job, journal_of, work
from rayft.runtime.keep import keeping
from rayft.runtime.nodes import versions_here
from rayft.runtime.preflight import places_of, plan_prepared, prepare_rows, resolve, unheard
from rayft.runtime.train import Silence
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from tests.benchmarks.prefix import head_spec
from tests.benchmarks.side_by_side import measure, ratio, report

CPU = torch.device("cpu")


def trial_spec(trial: int, args: argparse.Namespace, storage: str) -> RunSpec:
    """Return the spec of a trial; its numbers are spread over what a search would try."""
    dropout = {"none": 0.0, "same": 0.2, "many": 0.1 * (trial % 5)}[args.dropout]
    rate = 1e-4 * 10 ** (3 * trial / max(1, args.trials - 1))
    raw = head_spec(storage, files="train-00000*")
    raw["model"]["heads"]["label"] |= {
        "dropout": dropout,
        "label_smoothing": 0.05 * (trial % 3),
    }
    raw |= {
        "name": f"trial-{trial:04d}",
        "phases": [
            {"name": "probe", "train": ["heads"], "for": f"{args.epochs} epochs", "lr": rate}
        ],
        "optimizer": {"kind": "adamw", "weight_decay": 0.02 * (trial % 4)},
        "cache": {"mode": "require"},
        "scaling": {"num_workers": 0, "resources_per_worker": {"CPU": args.cpus}},
    }
    return RunSpec.model_validate(raw)


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trials that are planned, and what they share."""

    plans: list[RunPlan]
    prepared: PreparedDataset
    weights: LoadedWeights | None
    stores: Location

    @contextmanager
    def jobs(self) -> Iterator[list[Job]]:
        """Begin every trial in a new folder, all of them with the same kept features."""
        with tempfile.TemporaryDirectory() as folder, ExitStack() as uses:
            jobs = []
            for plan in self.plans:
                place = RunFolder(Location(folder), plan.spec.name)
                beginning = Beginning(dataset=self.prepared.ref, weights=self.weights, folder=place)
                kept = uses.enter_context(
                    keeping(
                        plan,
                        beginning,
                        store_root=self.stores,
                        environment=None,
                        listener=Silence(),
                    )
                )
                jobs.append(
                    Job(
                        plan=plan,
                        dataset=self.prepared.ref.to_json(),
                        kept=kept.to_json(),
                        storage_path=folder,
                        attempt=place.begin_attempt(),
                        versions=versions_here(),
                    )
                )
            yield jobs

    def alone(self) -> float:
        """Return the seconds of all trials, one after another."""
        with self.jobs() as jobs:
            started = time.perf_counter()
            for job in jobs:
                work(job, self.weights, ranks=OneRank(), device=CPU)
            return time.perf_counter() - started

    def fused(self) -> float:
        """Return the seconds of all trials together."""
        with self.jobs() as jobs:
            started = time.perf_counter()
            members = [
                FusedJob(trial=trial, job=job, events=journal_of(job))
                for trial, job in enumerate(jobs)
            ]
            endings = list(
                work_fused(members, self.weights, device=CPU, on_epoch=lambda _: frozenset())
            )
            seconds = time.perf_counter() - started
        assert {ending.status for ending in endings} == {"finished"}
        return seconds


def make_trials(specs: Sequence[RunSpec]) -> Trials:
    """Prepare rows and plan all trials, which neither side is to wait for."""
    places = places_of(specs[0])
    prepared = prepare_rows(specs[0], places, use_ray=False, on_rows=unheard)
    first = plan_prepared(specs[0], places, prepared)
    plans = [plan_prepared(spec, places, prepared, speeds=first.speeds) for spec in specs]
    keys = {fuse_key(plan) for plan in plans}
    assert len(keys) == 1, f"they cannot train together: {why_not(plans[0])}"
    return Trials(
        plans=plans,
        prepared=prepared,
        weights=resolve(specs[0], places, first),
        stores=places.store_root,
    )


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--dropout", choices=["none", "same", "many"], default="same")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as storage:
        trials = make_trials([trial_spec(number, args, storage) for number in range(args.trials)])
        with trials.jobs():
            # The features are made here, before anything is timed.
            pass
        figures = measure({"fused": trials.fused, "alone": trials.alone}, rounds=args.rounds)
    report(
        f"{args.trials} heads of MobileNetV2 at 96 px, {args.epochs} epochs of 9,000 kept rows, "
        f"dropout: {args.dropout}",
        [*figures.values(), ratio("alone / fused", figures["alone"], figures["fused"])],
        unit="seconds",
    )


if __name__ == "__main__":
    main()
