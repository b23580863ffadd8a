"""`rayft prepare --report`: progress, and what was found in the data for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from rayft.cli.command import Output
from rayft.cli.live_line import LiveLine
from rayft.cli.table import print_columns
from rayft.data.report.build import DataReport
from rayft.data.report.finding import Example, Finding
from rayft.runtime.data_report import ReportRequest, report_data
from rayft.storage.location import Location

_SHOWN = 3


def prepare_and_report(
    request: ReportRequest, out: Output, *, use_ray: bool, words: Sequence[object]
) -> None:
    """Prepare the rows of a spec, look at them, write the report and print what was found.

    Args:
        request: what is to be looked at.
        out: where to print.
        use_ray: prepare on the Ray cluster.
        words: the spec's file and the overrides, for the next command.
    """
    with ReportProgress(out.console) as progress:
        written = report_data(request, use_ray=use_ray, listener=progress)
    print_data_report(written.report, out.console)
    for problem in written.refusals:
        out.say(f"warning: a run would be refused: {problem}")
    rows = _count(len(written.report.proposals), "row")
    folder = request.folder.rstrip("/")
    names = {kind: f"{folder}/{Location(file).name}" for kind, file in written.files.items()}
    out.say(f"report: {names['html']}")
    out.say(f"list: {names['leave_out']} proposes to leave out {rows}")
    named = [f"data.leave_out={names['leave_out']}"] if written.report.proposals else []
    others = [word for word in words if not (named and str(word).startswith("data.leave_out="))]
    out.next("rayft", "plan", *others, *named)
    out.result({"status": "reported", **written.to_json()})


class ReportProgress(LiveLine):
    """Shows how far a report is."""

    def on_rows(self, done: int, total: int) -> None:
        """Rows of the dataset were prepared."""
        self.show(f"preparing rows: {done:,} of {total:,}", always=done == total)

    def on_looked_at(self, done: int, total: int) -> None:
        """Rows were measured."""
        self.show(f"looking at rows: {done:,} of {total:,}", always=done == total)


def print_data_report(report: DataReport, console: Console) -> None:
    """Print how often each fault was found, and where the first few are."""
    rows = [(finding.title, f"{finding.count:,}") for finding in report.findings]
    head = (f"{len(report.rows):,} rows", "found")
    print_columns((head, *rows), console, right=(1,), indent="  ")
    for finding in report.findings:
        if finding.count:
            _print_finding(finding, console)
    found = report.balance
    times = f", {found.ratio:.1f} times as many" if found.ratio else ""
    console.print(
        f"the largest class has {found.largest:,} training rows, the smallest "
        f"{found.smallest:,}{times}"
    )


def _print_finding(finding: Finding, console: Console) -> None:
    note = f" ({finding.note})" if finding.note else ""
    lines = [f"{finding.title}{note}:", *map(_example, finding.examples[:_SHOWN])]
    if len(finding.examples) > _SHOWN:
        lines.append("  more in the report")
    for line in lines:
        # Names of files are text, whatever brackets they hold.
        console.print(Text(line), soft_wrap=True)


def _example(example: Example) -> str:
    row, like = example.row, example.like
    named = f"{row.split} {row.file}" if row.file else f"class {row.label}"
    twin = f" as {like.split} {like.file}" if like else ""
    return f"  {named}: {example.detail}{twin}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
