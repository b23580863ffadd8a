"""Columns of text, as commands print them."""

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.text import Text


def print_columns(
    rows: Sequence[Sequence[str]], console: Console, *, right: Collection[int], indent: str = ""
) -> None:
    """Print rows of cells with every column as wide as its widest cell.

    Args:
        rows: [N][C] cells, the head among them.
        console: where to print.
        right: the columns, from 0, whose cells are put to the right, as numbers are.
        indent: goes before every line.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f"{cell:>{width}}" if place in right else f"{cell:<{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        # Cells are text, whatever brackets they hold.
        console.print(Text(indent + "  ".join(cells).rstrip()), soft_wrap=True)
