"""Rows per second of `prepare` in process against a DataLoader, 32 px, flip and padded crop.

python -m tests.benchmarks.prepare [--rounds 5]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from rayft.data.prepare import prepare_dataset
from rayft.feed.prepare import make_training_prepare
from rayft.feed.tickets import Ticket
from rayft.runtime.preflight import places_of, plan_prepared
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from tests.benchmarks.side_by_side import cifar_spec, measure, ratio, report
from tests.benchmarks.usual_script import loader

BATCH, SIZE = 128, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        raw = cifar_spec(folder)
        raw["augment"] = [{"kind": "random_crop", "padding": 4}, {"kind": "horizontal_flip"}]
        raw["data"]["image_size"] = SIZE
        spec = RunSpec.model_validate(raw)
        prepared = prepare_dataset(
            spec.data,
            base_dir=Path.cwd(),
            store_root=Location(folder),
            image_size=SIZE,
            stored_size=SIZE,
            use_ray=False,
            on_progress=lambda done, total: None,
        )
        split = open_dataset(prepared.ref).splits["train"]
        plan = plan_prepared(spec, places_of(spec), prepared)
        prepare = make_training_prepare(plan, plan.phases[0], split, threads=1)

        def rayft() -> float:
            """One epoch of random batches in one thread."""
            torch.set_num_threads(1)
            ids = np.random.default_rng(0).permutation(split.row_ids)
            started = time.perf_counter()
            for step in range(len(ids) // BATCH):
                rows = ids[step * BATCH : (step + 1) * BATCH]
                prepare(
                    Ticket(
                        phase=0,
                        epoch=0,
                        step=step,
                        shard=0,
                        row_ids=rows,
                        num_rows=BATCH,
                        views=np.zeros(BATCH, np.int64),
                    )
                )
            return len(ids) // BATCH * BATCH / (time.perf_counter() - started)

        def usual(*, decoded: bool) -> float:
            """An epoch of the usual loader, without the start of its processes."""
            batches = iter(loader(SIZE, batch_size=BATCH, decoded=decoded))
            next(batches)
            started, rows = time.perf_counter(), 0
            for _, labels in batches:
                rows += len(labels)
            return rows / (time.perf_counter() - started)

        rayft()
        found = measure(
            {
                "rayft": rayft,
                "DataLoader, 2 processes": lambda: usual(decoded=False),
                "DataLoader, 2 processes, decoded beforehand": lambda: usual(decoded=True),
            },
            rounds=rounds,
        )
    ours, encoded, decoded = found.values()
    figures = [
        *found.values(),
        ratio("rayft / DataLoader", ours, encoded),
        ratio("rayft / DataLoader, decoded beforehand", ours, decoded),
    ]
    report("`prepare` in process, 32 px, flip and padded crop", figures, unit="rows/s")


if __name__ == "__main__":
    main()
