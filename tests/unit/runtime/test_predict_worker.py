"""A worker: one chunk is read after another, failures come out, and it can be stopped."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rayft.data.predict_format import PartFormat
from rayft.data.predict_parts import Parts
from rayft.data.predict_rows import RawBatch
from rayft.engine.checkpoint_reading import find_checkpoint, read_checkpoint
from rayft.engine.predict import evaluated_weights, trained_model
from rayft.runtime.predict_worker import Abandoned, Work, Worker
from rayft.storage.location import Location
from tests.unit.conftest import make_image_file
from tests.unit.runtime.predicting import CLASSES, make_checkpoint, predictions

SCHEMA = pa.schema([("id", pa.int64())])


@dataclass
class Rows:
    """A chunk of pictures that tells when its batches are read."""

    first: int
    num_rows: int = 8
    log: list[int] = field(default_factory=list)
    slow: threading.Event | None = None

    def read(self, rows_per_batch: int) -> Iterator[RawBatch]:
        for start in range(self.first, self.first + self.num_rows, rows_per_batch):
            self.log.append(start)
            ids = list(range(start, start + rows_per_batch))
            yield RawBatch(
                read=partial(self._read, ids),
                carried=pa.table({"id": ids}, SCHEMA),
                num_rows=len(ids),
            )

    def _read(self, ids: list[int]) -> Iterator[bytes]:
        if self.slow is not None:
            self.slow.wait(20)
        return (make_image_file(number) for number in ids)


def make_worker(folder: Path, *, lanes: int) -> Worker:
    checkpoint = read_checkpoint(find_checkpoint(make_checkpoint(Location(str(folder / "run")))))
    trained = trained_model(checkpoint)
    weights = {n: t.numpy() for n, t in evaluated_weights(trained, checkpoint).items()}
    work = Work(
        trained=trained,
        columns=PartFormat(classes=CLASSES, carried=SCHEMA, top=None, prefix=""),
        parts=Parts(folder=Location(str(folder / "out")), request={"checkpoint": "c"}),
        device="cpu",
        batch_size=2,
        lanes=lanes,
    )
    return Worker(work, weights)


def call_all(worker: Worker, chunks: list[Any]) -> list[Any]:
    """Call a worker from one thread for each chunk; return reports and errors."""
    found: list[Any] = [None] * len(chunks)

    def call(index: int) -> None:
        try:
            found[index] = worker(index, chunks[index])
        except Exception as error:  # noqa: BLE001  looked at by the test
            found[index] = error

    threads = [threading.Thread(target=call, args=(index,)) for index in range(len(chunks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return found


def test_chunks_at_the_same_time_are_read_one_after_another(tmp_path: Path) -> None:
    worker, log = make_worker(tmp_path, lanes=3), list[int]()

    reports = call_all(worker, [Rows(8 * number, log=log) for number in range(4)])
    worker.stop()

    assert [report.num_rows for report in reports] == [8] * 4
    chunks = [start // 8 for start in log]
    assert len(chunks) == 16
    assert all(len(set(chunks[first : first + 4])) == 1 for first in range(0, 16, 4))
    assert [row["id"] for row in predictions(tmp_path / "out")] == list(range(32))


def test_few_batches_are_read_ahead_of_slow_lanes(tmp_path: Path) -> None:
    worker, go = make_worker(tmp_path, lanes=2), threading.Event()
    rows = Rows(0, num_rows=40, slow=go)
    thread = threading.Thread(target=worker, args=(0, rows))
    thread.start()

    time.sleep(0.3)
    ahead = len(rows.log)
    go.set()
    thread.join(30)
    worker.stop()

    assert ahead <= 2 * 2 + 1
    assert len(rows.log) == 20


def test_a_worker_that_is_stopped_gives_up_and_writes_nothing(tmp_path: Path) -> None:
    worker, go = make_worker(tmp_path, lanes=2), threading.Event()

    def stop() -> None:
        stopping = threading.Thread(target=worker.stop)
        stopping.start()
        worker._stopped.wait(20)
        go.set()
        stopping.join()

    timer = threading.Timer(0.1, stop)
    timer.start()
    found = call_all(worker, [Rows(0, num_rows=40, slow=go), Rows(40, slow=go)])
    timer.join()

    assert all(isinstance(each, Abandoned) or "Cancelled" in type(each).__name__ for each in found)
    assert not (tmp_path / "out").exists()


def test_a_stopped_worker_gives_up_every_chunk_that_still_comes(tmp_path: Path) -> None:
    worker = make_worker(tmp_path, lanes=1)
    worker.stop()

    # More chunks than it has room for batches, which none of them may keep.
    found = call_all(worker, [Rows(8 * number) for number in range(4)])

    assert all(isinstance(each, Abandoned) for each in found)


def test_a_fault_in_one_chunk_leaves_the_others_alone(tmp_path: Path) -> None:
    class Broken(Rows):
        def read(self, rows_per_batch: int) -> Iterator[RawBatch]:
            yield from super().read(rows_per_batch)
            raise RuntimeError("the file ends early")

    worker = make_worker(tmp_path, lanes=2)

    found = call_all(worker, [Rows(0), Broken(8), Rows(16)])
    worker.stop()

    assert isinstance(found[1], RuntimeError)
    assert [row["id"] for row in predictions(tmp_path / "out")] == [*range(8), *range(16, 24)]


@pytest.mark.parametrize("lanes", [1, 4])
def test_lanes_compute_with_one_thread_each(tmp_path: Path, lanes: int) -> None:
    import torch

    worker = make_worker(tmp_path, lanes=lanes)
    seen: list[int] = []
    probabilities = worker._predictor.probabilities

    def remember(images: Any) -> Any:
        seen.append(torch.get_num_threads())
        return probabilities(images)

    worker._predictor.probabilities = remember  # type: ignore[method-assign]
    call_all(worker, [Rows(0, num_rows=16)])
    worker.stop()

    assert seen == [1] * 8
