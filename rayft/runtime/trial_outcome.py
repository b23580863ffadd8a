"""How far the run of a trial has come, and what became of it, read from its folder."""

import time

from rayft.engine.checkpoint_reading import find_checkpoint, read_manifest
from rayft.errors import CheckpointError
from rayft.plan.trials import Ending
from rayft.runtime.folder import RunFolder


def steps_done(folder: RunFolder) -> int:
    """Return the steps in a run's newest checkpoint."""
    newest = folder.newest_checkpoint()
    if newest is None:
        return 0
    try:
        position = read_manifest(newest)["position"]
    except (CheckpointError, KeyError):
        # It is put aside once the run begins.
        return 0
    assert isinstance(position, dict)
    return int(str(position["steps_done"]))


def finished_ending(trial: int, folder: RunFolder, started: float) -> Ending:
    """Return the ending of a trial whose run is finished.

    Args:
        trial: its number.
        folder: of its run.
        started: when it began, by `time.monotonic`.
    """
    result = folder.result()
    assert result is not None
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    return Ending(
        trial=trial,
        status="finished",
        metrics={name: float(str(value)) for name, value in metrics.items()},
        checkpoint=str(result["checkpoint"]),
        seconds=time.monotonic() - started,
    )


def stopped_ending(trial: int, folder: RunFolder, started: float) -> Ending:
    """Return the ending of a trial that the sweep's rule has stopped: its best so far."""
    best = find_checkpoint(folder.place)
    metrics = read_manifest(best)["metrics"]
    assert isinstance(metrics, dict)
    return Ending(
        trial=trial,
        status="stopped",
        metrics={name: float(str(value)) for name, value in metrics.items()},
        checkpoint=str(best),
        seconds=time.monotonic() - started,
    )
