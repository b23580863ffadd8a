"""The commands that need more than the spec."""

import json
from collections.abc import Sequence
from pathlib import Path

from rayft.cli.command import Output
from rayft.cli.data_report import prepare_and_report
from rayft.cli.output_file import check_output_file
from rayft.cli.plan_json import plan_json
from rayft.cli.progress import Progress
from rayft.cli.show_plan import print_plan
from rayft.cli.show_result import print_report, print_result
from rayft.plan.facts import SplitName
from rayft.runtime.data_report import ReportRequest
from rayft.runtime.evaluate import evaluate
from rayft.runtime.kept_already import planned_with_kept
from rayft.runtime.launch import connect_if_told, start_ray
from rayft.runtime.nodes import check_nodes
from rayft.runtime.preflight import places_of, plan_before
from rayft.runtime.preflight import prepare_rows as prepare_spec_rows
from rayft.runtime.train import train
from rayft.spec.load import load_spec
from rayft.spec.run import RunSpec
from rayft.storage.check import check_storage


def show_plan(path: Path, overrides: Sequence[str], out: Output) -> None:
    """Print what a run would do."""
    spec = _load(path, overrides, out)
    if spec.scaling.num_workers > 0:
        connect_if_told()
    places = places_of(spec)
    plan = planned_with_kept(spec, places, plan_before(spec, places))
    print_plan(plan, out.console)
    out.next("rayft", "train", path, *overrides)
    out.result({"status": "planned", "plan": plan_json(plan)})


def prepare_rows(path: Path, overrides: Sequence[str], report: str | None, out: Output) -> None:
    """Build the row stores of a spec; with a folder for a report, look at the rows as well."""
    spec = _load(path, overrides, out)
    places = places_of(spec)
    check_storage(places.storage_path, setting="storage_path")
    if spec.scaling.num_workers > 0:
        connect_if_told()
    if report is None:
        plan_before(spec, places)
    uses_ray = spec.scaling.num_workers > 0
    if uses_ray:
        start_ray()
        check_nodes(places.storage_path)
    if report is not None:
        request = ReportRequest(
            spec=spec, folder=report, base_dir=places.base_dir, store_root=places.store_root
        )
        prepare_and_report(request, out, use_ray=uses_ray, words=(path, *overrides))
        return
    with Progress(out.console) as progress:
        prepared = prepare_spec_rows(spec, places, use_ray=uses_ray, on_rows=progress.on_rows)
    facts = prepared.facts
    counts = {split: sum(rows) for split, rows in facts.counts.items()}
    verb = "prepared" if prepared.built else "already prepared:"
    out.say(
        f"{verb} {', '.join(f'{rows:,} {split}' for split, rows in counts.items())} rows, "
        f"{len(facts.classes)} classes, {facts.stored_bytes / 2**20:,.0f} MiB, "
        f"{facts.num_bad_rows} unreadable"
        + (f", {facts.num_left_out:,} left out" if spec.data.leave_out else "")
    )
    out.next("rayft", "train", path, *overrides)
    out.result(
        {
            "status": "prepared",
            "built": prepared.built,
            "rows": counts,
            "classes": list(facts.classes),
            "bad_rows": facts.num_bad_rows,
            "left_out": facts.num_left_out,
            "stores": sorted({split.store for split in prepared.ref.splits.values()}),
        }
    )


def train_run(path: Path, overrides: Sequence[str], out: Output) -> None:
    """Train a spec and print the result."""
    spec = _load(path, overrides, out)
    with Progress(out.console) as progress:
        result = train(spec, listener=progress)
    print_result(result, out.console)
    out.next("rayft", "evaluate", result["run"])
    out.result(result)


def evaluate_checkpoint(
    path: str, overrides: Sequence[str], split: SplitName, file: Path | None, out: Output
) -> None:
    """Evaluate a checkpoint and print the report."""
    if file is not None:
        check_output_file(file, option="--report", such_as="report.json")
    with Progress(out.console) as progress:
        found = evaluate(path, split=split, overrides=overrides, on_rows=progress.on_rows)
    print_report(found, out.console)
    if file is not None:
        file.write_text(json.dumps(found, indent=1))
        out.say(f"full report: {file}")
    else:
        out.next("rayft", "evaluate", path, *overrides, "--split", split, "--report", "report.json")
    out.result(found)


def _load(path: Path, overrides: Sequence[str], out: Output) -> RunSpec:
    out.loaded = load_spec(path, overrides)
    return out.loaded.spec
