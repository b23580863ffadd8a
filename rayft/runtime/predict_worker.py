"""Chunk by chunk from the input to finished parts: the same in an actor and in this process.

A worker has several lanes. Each takes a batch all the way, from encoded images to probabilities,
in one thread: lanes never wait for each other, as the threads of one batch would, no core is left
idle while images are decoded, and the bits do not depend on the number of lanes or workers. On an
accelerator lanes decode side by side and take turns on the device.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Event, Lock, Semaphore
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from rayft.data.predict_format import PartFormat
from rayft.data.predict_input import Chunk
from rayft.data.predict_parts import PartReport, Parts
from rayft.data.predict_rows import Decoding, RawBatch
from rayft.engine.predict import Predictor, TrainedModel
from rayft.runtime.allocator import keep_freed_memory

_BATCHES_AHEAD = 1
"""Batches that wait for each lane, so that it finds the next one already read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is the same for all chunks."""

    trained: TrainedModel
    columns: PartFormat
    parts: Parts
    device: str
    batch_size: int
    lanes: int
    """Batches that a worker has in work at the same time."""


class Abandoned(Exception):  # noqa: N818  a request that was honoured, not a fault
    """The chunk was given up because the worker is to stop."""


@final
class Worker:
    """The model and its lanes.

    Args:
        work: what is to be done.
        weights: the model's weights by name, as arrays that need not be writable.
        on_rows: hears of every batch, from any thread.
    """

    def __init__(
        self,
        work: Work,
        weights: Mapping[str, NDArray[np.generic]],
        *,
        on_rows: Callable[[int], None] | None = None,
    ) -> None:
        self._work = work
        self._on_rows = on_rows
        device = torch.device(work.device)
        torch.backends.cudnn.benchmark = False
        self._predictor = Predictor(
            work.trained,
            {name: torch.tensor(array) for name, array in weights.items()},
            device=device,
            batch_size=work.batch_size,
        )
        self._decoding = Decoding(
            image_size=work.trained.image_size,
            stored_size=work.trained.stored_size,
            resize=work.trained.resize,
            channels=work.trained.channels,
        )
        self._stopped = Event()
        self._reading = Lock()
        self._turn: AbstractContextManager[object] = (
            nullcontext() if device.type == "cpu" else Lock()
        )
        self._room = Semaphore(work.lanes * (1 + _BATCHES_AHEAD))
        keep_freed_memory()
        self._threads_before = torch.get_num_threads()
        self._lanes = ThreadPoolExecutor(
            work.lanes,
            thread_name_prefix="rayft-lane",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )

    def __call__(self, index: int, chunk: Chunk) -> PartReport:
        """Predict a chunk and write its part. May be called from several threads.

        Raises:
            RayftError: the chunk cannot be read or its part not be written.
            Abandoned: the worker was stopped.
        """
        # One chunk is read after the other: the lanes finish the first while the next one is read.
        with self._reading:
            batches = list(self._submit(chunk))
        tables = [batch.result() for batch in batches]
        return self._work.parts.write(index, tables, self._work.trained.classes)

    def stop(self) -> None:
        """Give up what is in work, and end the lanes."""
        self._stopped.set()
        self._lanes.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads_before)

    def _submit(self, chunk: Chunk) -> Iterator[Future[Any]]:
        for batch in chunk.read(self._work.batch_size):
            self._room.acquire()
            if self._stopped.is_set():
                # For the next chunk, which waits for room only to be given up too.
                self._room.release()
                raise Abandoned
            future = self._lanes.submit(self._predict, batch)
            future.add_done_callback(lambda _: self._room.release())
            yield future

    def _predict(self, batch: RawBatch) -> Any:  # noqa: ANN401  pyarrow has no types
        if self._stopped.is_set():
            raise Abandoned
        size = self._predictor.image_size
        images = np.zeros(
            (self._work.batch_size, size, size, self._work.trained.channels), np.uint8
        )
        errors = self._decoding.decode(batch.read(), images)
        with self._turn:
            probabilities = self._predictor.probabilities(images)[: batch.num_rows]
        table = self._work.columns.table(batch.carried, probabilities, errors)
        if self._on_rows:
            self._on_rows(batch.num_rows)
        return table
