"""How a sweep stands, read from its folder: by anyone, while it runs or not."""

from rayft.errors import CheckpointError
from rayft.metrics import check_metric
from rayft.runtime.folder import RunFolder
from rayft.runtime.sweep_journal import open_sweep_journal
from rayft.runtime.sweep_plan import folder_of, places_of_sweep
from rayft.runtime.sweep_record import SweepState, read_state
from rayft.runtime.sweep_table import SweepHead, SweepTable, make_table
from rayft.spec.load_sweep import LoadedSweep


def sweep_table(loaded: LoadedSweep) -> SweepTable:
    """Return the trials of a sweep that its journal knows; none before it began."""
    return table_of(loaded, read_state(open_sweep_journal(folder_of(loaded).place).read()))


def table_of(loaded: LoadedSweep, state: SweepState) -> SweepTable:
    """Return a sweep's state as a table."""
    sweep = loaded.sweep
    head = SweepHead(
        name=sweep.name,
        metric=sweep.metric,
        direction=check_metric(sweep.metric, setting="metric"),
        settings=tuple(sweep.space),
    )
    return make_table(head, loaded.run, state.trials.values())


def is_running(loaded: LoadedSweep) -> bool:
    """Return whether a process works on a sweep now."""
    place = places_of_sweep(loaded).storage_path
    try:
        with RunFolder(place, loaded.sweep.name).locked():
            return False
    except CheckpointError:
        return True
