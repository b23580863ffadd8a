"""Everything rayft raises on purpose.

    RayftError                exit code 1: something that was started failed
    ├── TrainingError         the run cannot go on (non-finite loss, no progress)
    ├── Stopped               the run was asked to stop and has saved its position
    └── RequestError          exit code 2: nothing was started, nothing was written
        ├── SpecError         the spec asks for something impossible
        ├── DataError         a source, a row or a label breaks the contract
        │   └── CacheError    what could be computed again cannot be kept
        ├── ModelError        a backbone or its weights cannot be had or do not fit
        ├── CheckpointError   a checkpoint is missing, damaged or of another spec
        └── ClusterError      the cluster cannot give what the plan needs

Each carries one or more `Problem`s, so that a user learns of all of them in one pass.
Ray pickles exceptions on their way from worker to driver and Python rebuilds them as
`cls(*args)`; so constructors take positional arguments only, and pass all of them on.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and what to do about it."""

    where: str
    """A path in the spec (`phases.1.lr`), a file, or a row."""

    what: str
    """What was expected and what was found."""

    fix: str
    """What the user can do, as a sentence that starts with a verb."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n  fix: {self.fix}"


class RayftError(Exception):
    """Base class: catch this to catch every deliberate failure."""

    exit_code = 1

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class TrainingError(RayftError):
    """The run was started and cannot go on."""


class Stopped(RayftError):  # noqa: N818  a request that was honoured, not a fault
    """The run was asked to stop; its position is saved and the same command goes on."""

    def __init__(self, *problems: Problem, signal: int = 0) -> None:
        super().__init__(*problems)
        self.signal = signal
        """Number of the signal that asked for it, where one did."""
        if signal:
            self.exit_code = 128 + signal


class RequestError(RayftError):
    """The request was wrong; nothing was started."""

    exit_code = 2


class SpecError(RequestError):
    """The spec asks for something impossible."""


class DataError(RequestError):
    """A source, a row or a label breaks the contract."""


class CacheError(DataError):
    """Activations cannot be kept: no room, or a folder that refuses. They can be computed again."""


class ModelError(RequestError):
    """A backbone or its weights cannot be had, or do not fit."""


class CheckpointError(RequestError):
    """A checkpoint is missing, damaged, or belongs to another spec."""


class ClusterError(RequestError):
    """The cluster cannot give what the plan needs."""
