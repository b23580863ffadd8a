"""`rayft tune`: plan, run, look at or stop a sweep."""

from collections.abc import Sequence
from pathlib import Path

from rayft.cli.command import Output
from rayft.cli.show_sweep import print_sweep
from rayft.cli.show_sweep_plan import print_sweep_plan, sweep_plan_json
from rayft.cli.sweep_progress import SweepProgress
from rayft.errors import Problem, SpecError
from rayft.runtime.sweep_plan import folder_of, plan_sweep
from rayft.runtime.sweep_result import sweep_json
from rayft.runtime.sweep_status import is_running, sweep_table
from rayft.runtime.tune import tune
from rayft.spec.load_sweep import load_sweep


def run_sweep(path: Path, overrides: Sequence[str], out: Output) -> None:
    """Run a sweep to its end and print its trials."""
    out.loaded = loaded = load_sweep(path, overrides)
    with SweepProgress(out.console) as progress:
        result = tune(loaded, listener=progress)
    print_sweep(sweep_table(loaded), out.console)
    if result["best_spec"]:
        best = result["best"]
        assert isinstance(best, dict)
        out.next("rayft", "evaluate", best["checkpoint"])
    out.result(result)


def show_sweep_plan(path: Path, overrides: Sequence[str], out: Output) -> None:
    """Print what a sweep would do."""
    out.loaded = loaded = load_sweep(path, overrides)
    with SweepProgress(out.console) as progress:
        plan = plan_sweep(loaded, on_rows=progress.on_rows)
    print_sweep_plan(plan, out.console)
    out.next("rayft", "tune", path, *overrides)
    out.result({"status": "planned", **sweep_plan_json(plan)})


def show_status(path: Path, overrides: Sequence[str], out: Output) -> None:
    """Print how the trials of a sweep stand; start nothing."""
    out.loaded = loaded = load_sweep(path, overrides)
    table = sweep_table(loaded)
    if not table.rows:
        place = f"storage_path {loaded.sweep.storage_path}"
        what = f"no sweep {loaded.sweep.name} has begun there"
        raise SpecError(Problem(place, what, f"start it: rayft tune {path}"))
    print_sweep(table, out.console)
    result = sweep_json(table)
    if result["status"] == "running" and not is_running(loaded):
        result["status"] = "stopped"
        out.say("no process works on it now")
        out.next("rayft", "tune", path, *overrides)
    out.result(result)


def stop_sweep(path: Path, overrides: Sequence[str], out: Output) -> None:
    """Ask a sweep that runs, wherever it does, to save and stop."""
    out.loaded = loaded = load_sweep(path, overrides)
    if not is_running(loaded):
        what = f"sweep {loaded.sweep.name} is not running"
        fix = f"see how it stands: rayft tune {path} --status"
        raise SpecError(Problem(str(path), what, fix))
    folder_of(loaded).stop_file.write_bytes(b"asked")
    out.say(f"sweep {loaded.sweep.name}: its trials save and stop")
    out.next("rayft", "tune", path, *overrides, "--status")
    out.result({"status": "stopping"})
