"""What a sweep leaves behind: `result.json`, `best.yaml` and its pictures."""

import json
from typing import Protocol

from rayft.engine.ports import Json
from rayft.plan.trials import ENDED, Point
from rayft.runtime.sweep_plots.build import draw_plots
from rayft.runtime.sweep_table import SweepTable, TrialRow
from rayft.spec.overrides import dump_spec
from rayft.spec.run import RunSpec
from rayft.storage.location import Location

RESULT_FILE, BEST_FILE = "result.json", "best.yaml"
_BEST_SUFFIX = "-best"
_LONGEST_NAME = 128
"""Letters of the name of a run."""


class SpecOf(Protocol):
    """Gives the spec of a trial under another name and storage path."""

    def __call__(self, point: Point, *, name: str, storage_path: str) -> RunSpec:
        """Return the spec of a point."""
        ...


def write_sweep_result(
    folder: Location, table: SweepTable, *, spec_of: SpecOf, storage_path: str, seconds: float
) -> dict[str, Json]:
    """Write what a sweep has come to; it may be written again once trials were added.

    The best spec has a name of its own and the sweep's storage path: `rayft train` makes the best
    trial once more, from the same prepared rows, and puts it beside the other runs.

    Args:
        folder: the sweep's folder.
        table: its trials.
        spec_of: gives the spec of a trial under another name and storage path.
        storage_path: of the sweep, as it is written there.
        seconds: length of the sweep so far.

    Returns:
        What `result.json` holds.
    """
    best = table.best
    if best is None:
        # One that was written earlier belongs to another table.
        (folder / BEST_FILE).delete()
    else:
        name = table.head.name[: _LONGEST_NAME - len(_BEST_SUFFIX)] + _BEST_SUFFIX
        spec = spec_of(best.point, name=name, storage_path=storage_path)
        (folder / BEST_FILE).write_bytes(_best_yaml(table, best, spec).encode())
    plots = draw_plots(table)
    for file, content in plots.items():
        (folder / file).write_bytes(content)
    result = sweep_json(table) | {
        "sweep": str(folder),
        "best_spec": str(folder / BEST_FILE) if best else None,
        "plots": [str(folder / file) for file in plots],
        "seconds": seconds,
    }
    (folder / RESULT_FILE).write_bytes(json.dumps(result, indent=1).encode())
    return result


def sweep_json(table: SweepTable) -> dict[str, Json]:
    """Return a table for scripts: what is best, how many ended how, and every trial."""
    over = all(row.status in ENDED for row in table.rows)
    trials: list[Json] = [_row_json(rank, row) for rank, row in table.ranked()]
    counts: dict[str, Json] = {str(status): n for status, n in table.counts().items()}
    return {
        "status": "finished" if over else "running",
        "name": table.head.name,
        "metric": table.head.metric,
        "direction": table.head.direction,
        "best": _best_json(table.best),
        "counts": counts,
        "trials": trials,
    }


def _row_json(rank: int | None, row: TrialRow) -> dict[str, Json]:
    curve: list[Json] = [[point.phase, point.epoch, point.value] for point in row.curve]
    return {
        "rank": rank,
        **_trial_json(row),
        "status": row.status,
        "phase": row.phase,
        "epoch": row.epoch,
        "epochs": row.epochs,
        "seconds": row.seconds,
        "reason": row.reason,
        "curve": curve,
    }


def _best_json(best: TrialRow | None) -> dict[str, Json] | None:
    return None if best is None else _trial_json(best)


def _trial_json(row: TrialRow) -> dict[str, Json]:
    values: dict[str, Json] = json.loads(json.dumps(row.values))
    return {
        "trial": row.trial,
        "values": values,
        "value": row.value,
        "metrics": {**row.metrics},
        "checkpoint": row.checkpoint or None,
    }


def _best_yaml(table: SweepTable, best: TrialRow, spec: RunSpec) -> str:
    """Return the best spec as YAML, with a few words on where it comes from."""
    head = table.head
    lines = [
        f"# The best of {len(table.rows)} trials of the sweep {head.name}: trial {best.trial},",
        f"# {head.metric} {best.value:.4f}. Train it once more with: rayft train {BEST_FILE}",
        *(f"#   {path}: {json.dumps(value)}" for path, value in best.values.items()),
    ]
    return "\n".join([*lines, dump_spec(spec)])
