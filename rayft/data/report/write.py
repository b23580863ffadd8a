"""A report as files: `report.json` for scripts, `report.html` for people, `leave_out.csv`."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import count

from rayft.data.leave_out import COLUMNS
from rayft.data.report.build import DataReport
from rayft.data.report.finding import Example, Finding
from rayft.data.report.page import report_page
from rayft.data.report.rows import RowName
from rayft.data.report.sheet import contact_sheet
from rayft.storage.location import Location

LIST_NAME = "leave_out.csv"


def write_report(report: DataReport, folder: Location) -> dict[str, str]:
    """Write a report; a list of rows that is there already and differs is never replaced.

    Returns:
        Where `json`, `html` and the list of rows (`leave_out`) are.
    """
    sheets: dict[str, str] = {}
    for finding in report.findings:
        name = f"pictures/{finding.name}.png"
        picture = contact_sheet(report.rows, finding)
        if picture is None:
            # One of an earlier report would stand beside other figures.
            (folder / name).delete()
        else:
            (folder / name).write_bytes(picture)
            sheets[finding.name] = name
    places = {"json": folder / "report.json", "html": folder / "report.html"}
    places["json"].write_bytes(json.dumps(report_json(report), indent=1).encode())
    places["html"].write_bytes(report_page(report, sheets).encode())
    places["leave_out"] = _write_list(report, folder)
    return {name: str(place) for name, place in places.items()}


def report_json(report: DataReport) -> dict[str, object]:
    """Return a report as plain values."""
    return {
        "rows": len(report.rows),
        "left_out_before": len(report.left_out_before),
        "proposed_to_leave_out": len(report.proposals),
        "findings": [_finding_json(finding) for finding in report.findings],
        "balance": asdict(report.balance),
        "figures": [asdict(figures) for figures in report.figures],
    }


def _finding_json(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "title": finding.title,
        "rule": finding.rule,
        "count": finding.count,
        "note": finding.note,
        "examples": [_example_json(example) for example in finding.examples],
    }


def _example_json(example: Example) -> dict[str, object]:
    like = asdict(example.like) if example.like else None
    return {**asdict(example.row), "detail": example.detail, "like": like}


def list_text(report: DataReport) -> str:
    """Return the list of rows to leave out, those that are left out already first."""
    file = io.StringIO()
    plain = csv.writer(file, lineterminator="\n")
    # A carriage return in a name would end the line where it stands without quotes.
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(COLUMNS)
    for line in _lines(report):
        (quoted if any("\r" in cell for cell in line) else plain).writerow(line)
    return file.getvalue()


def _lines(report: DataReport) -> Iterator[tuple[str, ...]]:
    for name, like in report.left_out_before:
        yield _line(name, "left out before", like)
    for proposal in report.proposals:
        twin = None if proposal.like is None else report.rows.name(proposal.like)
        yield _line(report.rows.name(proposal.place), proposal.reason, twin)


def _line(name: RowName, reason: str, like: RowName | None) -> tuple[str, ...]:
    other = "" if like is None else f"{like.split} {like.file}"
    return (name.source, name.file, name.hash, name.label, reason, other)


def _write_list(report: DataReport, folder: Location) -> Location:
    """Write the list, below a name that no other list has: one there may be edited, or in use."""
    content = list_text(report).encode()
    for name in _list_names():
        place = folder / name
        if place.create(content) or place.read_bytes() == content:
            return place
    raise AssertionError("names never end")


def _list_names() -> Iterator[str]:
    yield LIST_NAME
    yield "leave_out.new.csv"
    yield from (f"leave_out.new{number}.csv" for number in count(2))
