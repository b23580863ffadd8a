"""Results and reports for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_SHOWN_ROWS = 5
_MOST_CLASSES = 30


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """Print what a run has come to and where it lies."""
    table = Table(title=f"{result['status']}", title_justify="left", box=None, padding=(0, 2))
    table.add_column("metric")
    for split in ("validation", "test"):
        table.add_column(split, justify="right")
    metrics: dict[str, dict[str, float]] = {}
    for name, value in result["metrics"].items():
        split, _, metric = name.partition("/")
        metrics.setdefault(metric, {})[split] = value
    for metric, values in metrics.items():
        if values.keys() & {"validation", "test"}:
            table.add_row(metric, *(_number(values.get(s)) for s in ("validation", "test")))
    console.print(table)
    throughput = result["throughput"]
    console.print(
        f"{throughput['rows_per_s']:,.0f} rows/s, {throughput['data_wait_fraction']:.1%} of the "
        f"time waiting for data, {result['seconds']:.0f} s in all"
    )
    console.print(f"checkpoint: {result['checkpoint']}")


def print_report(found: Mapping[str, Any], console: Console) -> None:
    """Print an evaluation: figures, classes, worst rows."""
    console.print(f"{found['checkpoint']} on {found['split']}")
    for name, value in found["metrics"].items():
        console.print(f"  {name.partition('/')[2]:<18} {_number(value)}")
    report = found["report"]
    classes = Table(box=None, padding=(0, 2))
    for column in ("class", "rows", "precision", "recall", "F1"):
        classes.add_column(column, justify="left" if column == "class" else "right")
    for entry in report["per_class"][:_MOST_CLASSES]:
        classes.add_row(
            str(entry["name"]),
            f"{entry['support']:,}",
            *(_number(entry[key]) for key in ("precision", "recall", "f1")),
        )
    console.print(classes)
    left_out = len(report["per_class"]) - _MOST_CLASSES
    if left_out > 0:
        console.print(f"  and {left_out} more classes (--report writes all)")
    console.print("worst rows:")
    for row in report["worst_rows"][:_SHOWN_ROWS]:
        console.print(
            f"  {row['source']}: {row['target']} taken for {row['predicted']}, loss "
            f"{row['loss']:.2f}"
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
