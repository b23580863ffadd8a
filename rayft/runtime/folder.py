"""The folder of a run: spec, lock, attempts, journal, checkpoints, result.

NAME/
    spec.yaml      what was asked for, with every default filled in
    lock           held by the driver; the kernel lets go of it when the process dies
    attempt        number of the newest attempt; an older one may no longer write
    journal.jsonl  events, one JSON object a line
    checkpoints/   step-*/ and the name of the best one
    result.json    once finished
"""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.ports import Json
from rayft.errors import CheckpointError, DataError, Problem, TrainingError
from rayft.spec.load import load_spec
from rayft.spec.overrides import dump_spec, spec_differences
from rayft.spec.run import RunSpec
from rayft.store.commit import exclusive, write_file_atomically

_MAY_CHANGE = ("scaling", "ingest", "checkpoint", "storage_path")
"""Settings that change where and how fast a run goes, and not what it computes."""


class RunFolder:
    """The folder of one run under `storage_path`."""

    def __init__(self, storage_path: Path, name: str) -> None:
        self.path = storage_path / name
        self.journal = self.path / "journal.jsonl"

    @property
    def result_file(self) -> Path:
        """File with the outcome of a finished run."""
        return self.path / "result.json"

    def result(self) -> dict[str, Json] | None:
        """Return the outcome, or None while the run is not finished."""
        if not self.result_file.is_file():
            return None
        result: dict[str, Json] = json.loads(self.result_file.read_text())
        return result

    def write_result(self, result: dict[str, Json]) -> None:
        """Write the outcome; from then on the run is finished."""
        write_file_atomically(self.result_file, json.dumps(result, indent=1).encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run of this name out.

        Raises:
            CheckpointError: another process holds the run.
        """
        check_writable(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self.path / "lock"
        try:
            with exclusive(lock, wait=False):
                lock.write_text(f"process {os.getpid()} on {platform.node()}")
                yield
        except BlockingIOError as error:
            raise CheckpointError(
                Problem(
                    str(self.path),
                    f"the run is being trained by {lock.read_text() or 'another process'}",
                    "wait for it or stop it, or give this run another name",
                )
            ) from error

    def take_up(self, spec: RunSpec) -> None:
        """Write the spec of a new run, or check that a known run is asked for by the same spec.

        Raises:
            CheckpointError: the run was begun with another spec; lists the differences.
        """
        file = self.path / "spec.yaml"
        if not file.is_file():
            write_file_atomically(file, dump_spec(spec).encode())
            return
        begun = load_spec(file).spec
        found = [
            difference
            for difference in spec_differences(begun, spec)
            if difference.path.split(".")[0] not in _MAY_CHANGE
        ]
        if found:
            rows = "\n".join(f"    {d.path}: {d.old!r} -> {d.new!r}" for d in found)
            raise CheckpointError(
                Problem(
                    str(self.path),
                    f"the run was begun with another spec (begun with -> asked for):\n{rows}",
                    "give this run another name, or ask for what it was begun with",
                )
            )

    def begin_attempt(self) -> int:
        """Count a new attempt; from now on older ones may not write."""
        number = self.attempt() + 1
        write_file_atomically(self.path / "attempt", str(number).encode())
        return number

    def attempt(self) -> int:
        """Return the number of the newest attempt, 0 before the first."""
        file = self.path / "attempt"
        return int(file.read_text()) if file.is_file() else 0

    def checkpoints(self, *, keep: int, attempt: int) -> CheckpointFolder:
        """Return the run's checkpoints, as seen by an attempt that may write while it is newest."""

        def fence() -> None:
            if self.attempt() != attempt:
                raise TrainingError(
                    Problem(
                        str(self.path),
                        f"attempt {attempt} was replaced by attempt {self.attempt()}",
                        "nothing; the newer one goes on",
                    )
                )

        return CheckpointFolder(self.path / "checkpoints", keep=keep, fence=fence)

    def has_checkpoints(self) -> bool:
        """Return whether the run has got as far as a checkpoint."""
        return bool(CheckpointFolder(self.path / "checkpoints").names())

    def stop_file(self, attempt: int) -> Path:
        """File whose presence asks an attempt to save and stop."""
        return self.path / f"stop-{attempt}"

    def over_file(self, attempt: int) -> Path:
        """File whose presence says that an attempt is over and must not be restarted."""
        return self.path / f"over-{attempt}"

    def sweep(self) -> None:
        """Delete the marks of earlier attempts."""
        for pattern in ("stop-*", "over-*"):
            for mark in self.path.glob(pattern):
                mark.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Check that `path` can be made and written to, without making it.

    Raises:
        DataError: it cannot.
    """
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise DataError(
            Problem(
                "storage_path",
                f"no permission to write to {nearest}",
                "choose another storage_path, or change the permission",
            )
        )
