"""The folder of a sweep: what was asked for, the journal, the runs of its trials, the result.

NAME/
    sweep.json     what was asked for, and what followed from the machine
    sweep.jsonl    the sweep's journal
    stop           asks all of it to save and stop
    trials/        a folder of a run for each trial
    stages/        the same for phases that trials share
    result.json    once finished, beside best.yaml and pictures
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rayft.errors import CheckpointError, Problem
from rayft.runtime.folder import RunFolder
from rayft.runtime.sweep_units import trial_name
from rayft.spec.overrides import data_differences
from rayft.spec.run import RunSpec
from rayft.spec.sweep import SweepSpec
from rayft.storage.location import Location

_MAY_CHANGE = (
    "sweep.search.num_trials",
    "sweep.max_concurrent",
    "sweep.storage_path",
    "run.storage_path",
)
"""More trials may be asked for later; where it runs does not change what it finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What followed from the machine when a sweep began, and holds for all of its trials."""

    reserved: Mapping[str, float]
    """What each worker of a trial reserves, where the run leaves it open."""
    precision: Mapping[str, Literal["fp32", "bf16"]]
    """What `precision: auto` was found to be, by network."""


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """Where a sweep lies."""

    place: Location

    @property
    def trials(self) -> Location:
        """Folder of the trials' runs."""
        return self.place / "trials"

    @property
    def stages(self) -> Location:
        """Folder of the phases that trials share."""
        return self.place / "stages"

    @property
    def stop_file(self) -> Location:
        """File whose presence asks all of the sweep to save and stop."""
        return self.place / "stop"

    @property
    def _asked_file(self) -> Location:
        return self.place / "sweep.json"

    def run_of(self, trial: int) -> RunFolder:
        """Return the folder of a trial's run."""
        return RunFolder(self.trials, trial_name(trial))

    def check_same(self, sweep: SweepSpec, run: RunSpec) -> None:
        """Check that a sweep that goes on is the one that was begun.

        Raises:
            CheckpointError: it was begun with other settings; lists the differences.
        """
        begun = self._begun()
        if begun is None and (self.place / "spec.yaml").exists():
            raise CheckpointError(
                Problem(
                    str(self.place),
                    "a run of this name lies there, and a sweep would write over its result",
                    "give the sweep another name",
                )
            )
        if begun is None:
            return
        found = [
            difference
            for difference in data_differences(begun["asked"], _asked(sweep, run))
            if not difference.path.startswith(_MAY_CHANGE)
        ]
        if found:
            rows = "\n".join(f"    {d.path}: {d.old!r} -> {d.new!r}" for d in found)
            raise CheckpointError(
                Problem(
                    str(self.place),
                    f"the sweep was begun with other settings (begun with -> asked for):\n{rows}",
                    "give this sweep another name, or ask for what it was begun with",
                )
            )

    def settled(self) -> Settled | None:
        """Return what followed from the machine when the sweep began; None before."""
        begun = self._begun()
        if begun is None:
            return None
        return Settled(reserved=begun["reserved"], precision=begun["precision"])

    def begin(self, sweep: SweepSpec, run: RunSpec, settled: Settled) -> None:
        """Write what was asked for; from now on the sweep goes on from what its journal says."""
        text = json.dumps({"asked": _asked(sweep, run), **asdict(settled)}, indent=1)
        self._asked_file.write_bytes(text.encode())

    def _begun(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._asked_file.read_bytes())
        except FileNotFoundError:
            return None
        return found


def _asked(sweep: SweepSpec, run: RunSpec) -> dict[str, object]:
    return {
        "sweep": sweep.model_dump(mode="json", by_alias=True, exclude={"run"}),
        "run": run.model_dump(mode="json", by_alias=True),
    }
