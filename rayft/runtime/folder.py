"""The folder of a run: spec, lock, attempts, journal, checkpoints, result.

NAME/
    spec.yaml      what was asked for, with every default filled in
    attempt        number of the newest attempt; an older one may no longer write
    journal.jsonl  events, one JSON object a line; in an object store a folder of pieces, journal/
    checkpoints/   step-*/ and the name of the best one
    result.json    once finished
"""

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import yaml

from rayft.engine.checkpoint import CheckpointFolder
from rayft.engine.ports import Json
from rayft.errors import CheckpointError, Problem, TrainingError
from rayft.plan.run_plan import RunPlan
from rayft.spec.load import spec_from_data
from rayft.spec.overrides import dump_spec, spec_differences
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.storage.lock import locked

_MAY_CHANGE = ("scaling", "rows_per_device", "ingest", "checkpoint", "storage_path")
"""Settings that change where and how fast a run goes, and not which rows train in which step."""


class RunFolder:
    """The folder of one run under `storage_path`."""

    def __init__(self, storage_path: Location, name: str) -> None:
        self.place = storage_path / name

    @property
    def attempt_file(self) -> Location:
        """File with the number of the newest attempt."""
        return self.place / "attempt"

    @property
    def result_file(self) -> Location:
        """File with the outcome of a finished run."""
        return self.place / "result.json"

    @property
    def _pinned_file(self) -> Location:
        return self.place / "pinned.json"

    def result(self) -> dict[str, Json] | None:
        """Return the outcome, or None while the run is not finished."""
        try:
            result: dict[str, Json] = json.loads(self.result_file.read_bytes())
        except FileNotFoundError:
            return None
        return result

    def write_result(self, result: dict[str, Json]) -> None:
        """Write the outcome; from then on the run is finished."""
        self.result_file.write_bytes(json.dumps(result, indent=1).encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run of this name out.

        Raises:
            CheckpointError: another process holds the run.
        """
        lock = self.place.parent / ".locks" / f"{self.place.name}.lock"
        holder = f"process {os.getpid()} on {platform.node()}"
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(lock, holder=holder, wait=False))
            except BlockingIOError as error:
                raise CheckpointError(
                    Problem(
                        str(self.place),
                        f"the run is being trained by {error.strerror}",
                        "wait for it or stop it, or give this run another name",
                    )
                ) from error
            yield

    def check_same(self, spec: RunSpec) -> None:
        """Check that a run with checkpoints is asked for by the spec it was begun with.

        Raises:
            CheckpointError: it was begun with another spec, and lists the differences; or a sweep
                lies there.
        """
        if (self.place / "sweep.json").exists():
            what = "a sweep of this name lies there, and a run would write over its result"
            raise CheckpointError(Problem(str(self.place), what, "give the run another name"))
        file = self.place / "spec.yaml"
        if not file.exists() or not self.has_checkpoints():
            return
        begun = spec_from_data(yaml.safe_load(file.read_bytes()), ())
        found = [
            difference
            for difference in spec_differences(begun, spec)
            if difference.path.split(".")[0] not in _MAY_CHANGE
        ]
        if found:
            rows = "\n".join(f"    {d.path}: {d.old!r} -> {d.new!r}" for d in found)
            raise CheckpointError(
                Problem(
                    str(self.place),
                    f"the run was begun with another spec (begun with -> asked for):\n{rows}",
                    "give this run another name, or ask for what it was begun with",
                )
            )

    def begin(self, spec: RunSpec, plan: RunPlan) -> None:
        """Write what was asked for, and what followed from the machine, of a run that begins.

        Of one that goes on, only other rows at once are written down.
        """
        if self.has_checkpoints():
            self._pin_rows(plan)
            return
        (self.place / "spec.yaml").write_bytes(dump_spec(spec).encode())
        pinned: dict[str, Json] = {
            "precision": plan.precision,
            "rows_per_device": plan.max_rows_per_device,
            "num_workers": plan.resources.num_workers,
            "cpus_per_worker": plan.resources.cpus_per_worker,
        }
        self._pinned_file.write_bytes(json.dumps(pinned).encode())

    def _pin_rows(self, plan: RunPlan) -> None:
        if not self._pinned_file.exists():
            return
        pinned = json.loads(self._pinned_file.read_bytes())
        if pinned["rows_per_device"] != plan.max_rows_per_device:
            pinned["rows_per_device"] = plan.max_rows_per_device
            self._pinned_file.write_bytes(json.dumps(pinned).encode())

    def pinned(self, spec: RunSpec) -> RunSpec:
        """Put in place of `auto` what the run began with: a resumed run must compute alike.

        Rows at once are a number where what it began with does not fit, and then win.
        """
        if not self._pinned_file.exists() or not self.has_checkpoints():
            return spec
        began = json.loads(self._pinned_file.read_bytes())
        changes: dict[str, object] = {"precision": began["precision"]}
        if spec.rows_per_device == "auto":
            changes["rows_per_device"] = began["rows_per_device"]
        if spec.scaling.num_workers == began["num_workers"]:
            reserved = {"CPU": began["cpus_per_worker"], **spec.scaling.resources_per_worker}
            changes["scaling"] = spec.scaling.model_copy(update={"resources_per_worker": reserved})
        return spec.model_copy(update=changes)

    def begin_attempt(self) -> int:
        """Count a new attempt; from now on older ones may not write."""
        number = self.attempt() + 1
        self.attempt_file.write_bytes(str(number).encode())
        return number

    def attempt(self) -> int:
        """Return the number of the newest attempt, 0 before the first."""
        try:
            return int(self.attempt_file.read_bytes())
        except FileNotFoundError:
            return 0

    def checkpoints(self, *, keep: int, attempt: int) -> CheckpointFolder:
        """Return the run's checkpoints, as seen by an attempt that may write while it is newest."""

        def fence() -> None:
            if self.attempt() != attempt:
                raise TrainingError(
                    Problem(
                        str(self.place),
                        f"attempt {attempt} was replaced by attempt {self.attempt()}",
                        "nothing; the newer one goes on",
                    )
                )

        return CheckpointFolder(self.place / "checkpoints", keep=keep, fence=fence)

    def check_checkpoints(self, *, on_damaged: Callable[[dict[str, Json]], None]) -> None:
        """Verify the newest checkpoint before anything starts; put damaged ones aside.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """

        def tell(name: str, problem: str) -> None:
            on_damaged({"kind": "damaged", "name": name, "problem": problem})

        CheckpointFolder(self.place / "checkpoints").newest(on_damaged=tell)

    def newest_checkpoint(self) -> Location | None:
        """Return the newest checkpoint; None where there is none."""
        names = CheckpointFolder(self.place / "checkpoints").names()
        return self.place / "checkpoints" / names[-1] if names else None

    def has_checkpoints(self) -> bool:
        """Return whether the run has got as far as a checkpoint."""
        return bool(CheckpointFolder(self.place / "checkpoints").names())

    def stop_file(self, attempt: int) -> Location:
        """File whose presence asks an attempt to save and stop."""
        return self.place / f"stop-{attempt}"

    def over_file(self, attempt: int) -> Location:
        """File whose presence says that an attempt is over and must not be restarted."""
        return self.place / f"over-{attempt}"

    def sweep(self) -> None:
        """Delete the marks of earlier attempts."""
        for name in self.place.children():
            if name.startswith(("stop-", "over-")):
                (self.place / name).delete()
