"""Results and reports for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

_SHOWN_ROWS = 5
_MOST_CLASSES = 30


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """Print what a run has come to and where it lies."""
    metrics: dict[str, dict[str, float]] = {}
    for name, value in result["metrics"].items():
        split, _, metric = name.partition("/")
        metrics.setdefault(metric, {})[split] = value
    rows = [
        (metric, *(_number(values.get(split)) for split in ("validation", "test")))
        for metric, values in metrics.items()
        if values.keys() & {"validation", "test"}
    ]
    _print_table((result["status"], "validation", "test"), rows, console)
    throughput = result["throughput"]
    console.print(
        f"{throughput['rows_per_s']:,.0f} rows/s, {throughput['data_wait_fraction']:.1%} of the "
        f"time waiting for data, {result['seconds']:.0f} s in all"
    )
    console.print(f"checkpoint: {result['checkpoint']}", soft_wrap=True)


def print_report(found: Mapping[str, Any], console: Console) -> None:
    """Print an evaluation: figures, classes, worst rows."""
    console.print(f"{found['checkpoint']} on {found['split']}", soft_wrap=True)
    for name, value in found["metrics"].items():
        console.print(f"  {name.partition('/')[2]:<18} {_number(value)}")
    report = found["report"]
    rows = [
        (
            str(entry["name"]),
            f"{entry['support']:,}",
            *(_number(entry[key]) for key in ("precision", "recall", "f1")),
        )
        for entry in report["classes"][:_MOST_CLASSES]
    ]
    _print_table(("class", "rows", "precision", "recall", "F1"), rows, console)
    left_out = len(report["classes"]) - _MOST_CLASSES
    if left_out > 0:
        console.print(f"  and {left_out} more classes (--report writes all)")
    console.print("rows with the highest loss:")
    for row in report["worst_rows"][:_SHOWN_ROWS]:
        console.print(
            f"  {row['source']}: {row['target']} taken for {row['predicted']}, loss "
            f"{row['loss']:.2f}",
            soft_wrap=True,
        )


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        first, *rest = row
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        console.print("  ".join([f"  {first:<{widths[0]}}", *cells]), soft_wrap=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
