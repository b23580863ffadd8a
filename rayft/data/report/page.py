"""A report as one HTML page, without scripts or anything from elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from urllib.parse import quote

from rayft.data.report.build import DataReport
from rayft.data.report.classes import ClassFigures
from rayft.data.report.finding import Example, Finding

SHOWN = 20
"""Examples of each finding on the page; `report.json` has more."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child, td.text { text-align: left; }
img { max-width: 100%; border: 1px solid #ddd; }
.rule { color: #555; }
"""


def report_page(report: DataReport, sheets: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        report: the report.
        sheets: the contact sheet of each finding that has one, relative to the page.
    """
    body = "\n".join(_body(report, sheets))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>Data report</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _body(report: DataReport, sheets: Mapping[str, str]) -> Iterator[str]:
    yield f"<h1>Data report</h1>\n<p>{len(report.rows):,} rows were looked at.</p>"
    rows = [[finding.title, f"{finding.count:,}", finding.note] for finding in report.findings]
    yield _table(["finding", "count", ""], rows)
    for finding in report.findings:
        if finding.count:
            yield from _section(finding, sheets.get(finding.name))
    yield from _classes(report)


def _section(finding: Finding, sheet: str | None) -> Iterator[str]:
    yield f"<h2>{escape(finding.title.capitalize())}: {finding.count:,}</h2>"
    yield f'<p class="rule">{escape(finding.rule)}</p>'
    if finding.note:
        yield f"<p>{escape(finding.note)}</p>"
    if sheet:
        yield f'<p><img src="{quote(sheet)}" alt="{escape(finding.title)}"></p>'
    yield _table(["row", "class", "what", "like"], [_example(e) for e in finding.examples[:SHOWN]])
    if len(finding.examples) > SHOWN:
        yield f"<p>The worst {SHOWN}; report.json has more.</p>"


def _example(example: Example) -> list[str]:
    row, like = example.row, example.like
    named = f"{row.split} {row.file}" if row.file else ""
    other = f"{like.split} {like.file} ({like.label})" if like else ""
    return [named, row.label, example.detail, other]


def _classes(report: DataReport) -> Iterator[str]:
    found = report.balance
    yield "<h2>Classes</h2>"
    yield (
        f"<p>The largest class has {found.largest:,} training rows, the smallest "
        f"{found.smallest:,}"
        + (f": {found.ratio:.1f} times as many" if found.ratio else "")
        + ". Brightness, contrast and colour are on a scale where white is 1.</p>"
    )
    splits = list(report.figures[0].rows)
    faults = list(report.figures[0].shares)
    head = ["class", *splits, "brightness", "its std", "contrast", "colour", *faults]
    yield _table(head, [_figures(each, splits) for each in report.figures])


def _figures(each: ClassFigures, splits: Sequence[str]) -> list[str]:
    counts = [f"{rows:,}" for split, rows in each.rows.items() if split in splits]
    numbers = [f"{n:.3f}" for n in (each.brightness, each.brightness_std, each.contrast)]
    colour = " ".join(f"{part:.2f}" for part in each.colour)
    return [each.name, *counts, *numbers, colour, *(f"{s:.1%}" for s in each.shares.values())]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table>", _row("th", head), *(_row("td", row) for row in rows), "</table>"]
    return "\n".join(lines)


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
