"""`rayft predict`: labels and probabilities for new images, from a checkpoint alone."""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Protocol

from rayft.data.predict_parts import PartReport, part_name
from rayft.engine.checkpoint_reading import find_checkpoint, read_checkpoint
from rayft.engine.ports import Json
from rayft.engine.predict import evaluated_weights
from rayft.errors import DataError, Problem, RayftError, Stopped
from rayft.runtime.predict_job import Job, PredictOptions, Source, find_source, make_job
from rayft.runtime.predict_run import connected, run_here, run_on_ray
from rayft.runtime.predict_scale import Machines, choose_device, scale
from rayft.runtime.stop_at_once import StoppedBySignal
from rayft.storage.check import check_storage
from rayft.storage.location import Location


class Listener(Protocol):
    """Hears what predicting is doing, on the driver."""

    def on_stage(self, text: str) -> None:
        """Something that takes a while begins."""
        ...

    def on_rows(self, done: int, total: int) -> None:
        """Rows are predicted, by this call or before. Called from any thread, one at a time."""
        ...


class Silence:
    """A listener for scripts that only want the result."""

    def on_stage(self, text: str) -> None:
        """Say nothing."""

    def on_rows(self, done: int, total: int) -> None:
        """Say nothing."""


def predict(
    checkpoint: Path | str,
    inputs: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    options: PredictOptions | None = None,
    listener: Listener | None = None,
) -> dict[str, Json]:
    """Predict new images and write parquet parts into a folder.

    The same call goes on where an earlier one was interrupted, and returns at once where
    everything is there.

    Args:
        checkpoint: a checkpoint, or a run (its best checkpoint).
        inputs: a folder of images, image files, a CSV file, or parquet files.
        output: the folder to write, here or in an object store.
        options: columns, workers and so on.
        listener: hears how far it is.

    Returns:
        `status`, `output`, `checkpoint`, `rows`, `errors`, `examples` (of errors), `parts`, and
        of this call `rows_predicted`, `rows_per_s` and `seconds`.

    Raises:
        RequestError: the request cannot be honoured; nothing was written.
        RayftError: it was begun and cannot go on.
        Stopped: a signal asked for it.
    """
    listener = listener or Silence()
    options = options or PredictOptions()
    options.check()
    started = time.monotonic()
    base_dir = Path.cwd()
    names = [inputs] if isinstance(inputs, Path | str) else list(inputs)
    listener.on_stage("reading the checkpoint")
    place = Location.parse(str(checkpoint), base_dir=base_dir, where="checkpoint")
    folder = find_checkpoint(place)
    found = read_checkpoint(folder)
    listener.on_stage("listing the input")
    source = find_source(folder, found, [*map(str, names)], options=options, base_dir=base_dir)
    target = Location.parse(str(output), base_dir=base_dir, where="--output")
    check_storage(target, setting="--output")
    with connected(uses_ray=options.workers != 0) as machines:
        job = _plan(source, target, machines)
        job.work.parts.check()
        with job.work.parts.locked():
            job.work.parts.check()
            try:
                result = _finish(job, listener)
            except OSError as error:
                what = f"it cannot be read or written: {error.strerror or error}"
                fix = "check the place; the same command goes on"
                raise RayftError(Problem(str(target), what, fix)) from error
    return {**result, "seconds": time.monotonic() - started}


def _plan(source: Source, target: Location, machines: Machines) -> Job:
    options = source.options
    device = choose_device(options.device, machines)
    who = scale(machines, workers=options.workers, device=device)
    return make_job(source, target, scale=who)


def _finish(job: Job, listener: Listener) -> dict[str, Json]:
    """Predict what is not there yet."""
    parts, sizes = job.work.parts, [chunk.num_rows for chunk in job.chunks]
    there = {part.index: part for part in parts.finished(sizes)}
    done_before = sum(part.num_rows for part in there.values())
    manifest = parts.manifest()
    if manifest is not None and len(there) == len(sizes):
        return {**_result(job, there), "status": "already finished"}
    parts.begin()
    started = time.monotonic()
    progress = _Progress(done_before, job.source.rows.num_rows, listener)
    try:
        with closing(_missing(job, there, progress)) as predicted:
            for part in predicted:
                there[part.index] = part
    except StoppedBySignal as stopped:
        raise _stopped(job, there, stopped.signal) from None
    except DataError as error:
        # Rows that could be listed cannot be read: by now this is no refusal any more.
        raise RayftError(*error.problems) from error
    seconds = time.monotonic() - started
    _check(job, there)
    result = _result(job, there)
    parts.write_manifest({**result, "request": dict(parts.request), "files": _files(there)})
    new_rows = job.source.rows.num_rows - done_before
    return {**result, "rows_predicted": new_rows, "rows_per_s": new_rows / max(seconds, 1e-9)}


def _missing(
    job: Job, there: Mapping[int, PartReport], progress: "_Progress"
) -> Generator[PartReport]:
    chunks = {index: chunk for index, chunk in enumerate(job.chunks) if index not in there}
    if not chunks:
        return
    tensors = evaluated_weights(job.source.trained, job.source.checkpoint)
    weights = {name: tensor.numpy() for name, tensor in tensors.items()}
    if not job.scale.workers:
        progress.say("predicting")
        yield from run_here(chunks, job.work, weights, on_rows=progress.add)
        return
    waiting = "waiting for a node that holds a worker, and " if job.scale.must_wait else ""
    progress.say(f"{waiting}starting {job.scale.workers} workers")
    for part in run_on_ray(chunks, job.work, weights, scale=job.scale):
        progress.add(part.num_rows)
        yield part


class _Progress:
    def __init__(self, done: int, total: int, listener: Listener) -> None:
        self._done = done
        self._total = total
        self._listener = listener
        self._lock = Lock()

    def say(self, text: str) -> None:
        before = f", {self._done:,} of {self._total:,} rows are there" if self._done else ""
        self._listener.on_stage(text + before)

    def add(self, rows: int) -> None:
        with self._lock:
            self._done += rows
            self._listener.on_rows(self._done, self._total)


def _check(job: Job, there: Mapping[int, PartReport]) -> None:
    """Check that what was written can be trusted, before it is called finished."""
    source, folder = job.source, job.work.parts.folder
    names = set(folder.children())
    if missing := [part_name(index) for index in there if part_name(index) not in names]:
        what = f"{len(missing)} parts were written and are not there, such as {missing[0]}"
        fix = "choose a folder that all machines share, or one in an object store"
        raise RayftError(Problem(str(folder), what, fix))
    if not source.rows.is_as_listed():
        what = "files changed while they were being read"
        raise RayftError(Problem(source.rows.where, what, f"delete {folder} and run again"))
    if sum(part.num_errors for part in there.values()) == source.rows.num_rows:
        examples = [text for part in there.values() for text in part.examples]
        reason = f": {examples[0]}" if examples else ""
        what = f"not one of {source.rows.num_rows:,} images can be read{reason}"
        raise RayftError(Problem(source.rows.where, what, "check INPUT, --image and --root"))


def _result(job: Job, there: Mapping[int, PartReport]) -> dict[str, Json]:
    ordered = [there[index] for index in sorted(there)]
    examples: list[Json] = [text for part in ordered for text in part.examples]
    return {
        "status": "predicted",
        "output": str(job.work.parts.folder),
        "checkpoint": str(job.source.folder),
        "input": job.source.rows.where,
        "rows": job.source.rows.num_rows,
        "errors": sum(part.num_errors for part in ordered),
        "examples": examples[:3],
        "parts": len(ordered),
        "classes": list(job.source.trained.classes),
    }


def _files(there: Mapping[int, PartReport]) -> list[Json]:
    return [
        {"file": part_name(index), "rows": part.num_rows, "errors": part.num_errors}
        for index, part in sorted(there.items())
    ]


def _stopped(job: Job, there: Mapping[int, PartReport], signal: int) -> Stopped:
    rows = sum(part.num_rows for part in there.values())
    what = f"stopped as asked; {rows:,} of {job.source.rows.num_rows:,} rows are predicted"
    fix = "run the same command again to go on"
    return Stopped(Problem(str(job.work.parts.folder), what, fix), signal=signal)
