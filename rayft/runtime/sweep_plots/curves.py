"""Learning curves: what every trial reached at the end of each epoch."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rayft.plan.trials import Status
from rayft.runtime.sweep_plots.paper import BEST, GRID, INK, PALE, paper, png, shade
from rayft.runtime.sweep_plots.scales import Range, metric_range
from rayft.runtime.sweep_table import CurvePoint, SweepTable, TrialRow

_FEW = 8
"""So many trials get a colour and a line of the legend each."""
_COLOURS = ("#1f5fa8", "#2e8b57", "#c77f1a", "#7d4fa3", "#14848f", "#8a5a44", "#b0558f", "#6b7a1f")
_ENDS: Mapping[Status, tuple[str, str]] = {
    "finished": ("o", "finished"),
    "stopped": ("x", "stopped"),
    "failed": ("X", "failed"),
    "running": (">", "still running"),
    "waiting": ("<", "waiting to go on"),
}
_MARGIN = 0.04


def draw_curves(table: SweepTable) -> bytes | None:
    """Return the picture as a PNG file; None before the end of the first epoch."""
    rows = [row for row in table.rows if row.curve]
    if not rows:
        return None
    head = table.head
    values = [point.value for row in rows for point in row.curve]
    scale = _range(rows, head.direction)
    colours = _colours(rows, table)
    with paper(9.0, 5.2) as axes:
        for row in reversed(rows):
            _draw_curve(axes, row, colours[row.trial], is_best=row is table.best)
        _draw_phases(axes, rows, colours)
        _finish(axes, table, scale)
        _draw_legend(axes, rows, colours, table)
        beyond = sum(not scale.low <= value <= scale.high for value in values)
        notes = [f"{beyond} far worse values lie beyond the edge"] if beyond else []
        return png(axes, notes)


def _range(rows: Sequence[TrialRow], direction: Literal["min", "max"]) -> Range:
    """Return a range with where trials begin and what they reach, whatever diverges on the way."""
    best = max if direction == "max" else min
    firsts = [row.curve[0].value for row in rows]
    bests = [best(point.value for point in row.curve) for row in rows]
    return metric_range([*firsts, *bests], direction)


def _colours(rows: Sequence[TrialRow], table: SweepTable) -> dict[int, str]:
    """Give few trials a colour each, many a shade by their rank; the best one is red."""
    if len(rows) <= _FEW:
        by_trial = sorted(row.trial for row in rows)
        found = dict(zip(by_trial, _COLOURS, strict=False))
    else:
        found = {trial: shade(stands) for trial, stands in table.standing().items()}
    best = table.best
    return found | ({best.trial: BEST} if best else {})


def _draw_curve(axes: Axes, row: TrialRow, colour: str, *, is_best: bool) -> None:
    heights = [point.value for point in row.curve]
    lengths = [point.done for point in row.curve]
    front = 4 if is_best else 3
    axes.plot(lengths, heights, color=colour, linewidth=2.4 if is_best else 1.3, zorder=front)
    marker, _ = _ENDS[row.status]
    axes.plot(lengths[-1], heights[-1], marker, color=colour, markersize=5, zorder=front)


def _draw_phases(axes: Axes, rows: Sequence[TrialRow], colours: Mapping[int, str]) -> None:
    """Mark where phases begin: once where all trials agree, otherwise on every curve."""
    begins: dict[int, set[int]] = defaultdict(set)
    for row in rows:
        for phase, before in _phase_starts(row):
            begins[phase].add(before.done)
    shared = {phase: found.copy().pop() for phase, found in begins.items() if len(found) == 1}
    for phase, length in shared.items():
        axes.axvline(length, color=PALE, linewidth=1, linestyle=":", zorder=1)
        axes.annotate(
            f"phase {phase}",
            (length, 1),
            xytext=(3, -3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            color=PALE,
            fontsize=9,
        )
    for row in rows:
        for phase, before in _phase_starts(row):
            if phase not in shared:
                axes.plot(
                    before.done,
                    before.value,
                    "d",
                    color=colours[row.trial],
                    markerfacecolor="white",
                    markersize=6,
                    zorder=5,
                )


def _phase_starts(row: TrialRow) -> list[tuple[int, CurvePoint]]:
    """Return each later phase, and the last point before it."""
    return [
        (after.phase, before)
        for before, after in pairwise(row.curve)
        if after.phase != before.phase
    ]


def _finish(axes: Axes, table: SweepTable, scale: Range) -> None:
    margin = _MARGIN * (scale.high - scale.low) or abs(scale.high) * _MARGIN or _MARGIN
    axes.set_ylim(scale.low - margin, scale.high + margin)
    axes.set_xlabel("epochs, over all phases")
    axes.set_ylabel(table.head.metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(f"{table.head.name}: {table.head.metric} of each trial")


def _draw_legend(
    axes: Axes, rows: Sequence[TrialRow], colours: Mapping[int, str], table: SweepTable
) -> None:
    """Name few trials one by one, of many the best; then what the ends of curves mean."""
    best = table.best
    lines = [
        Line2D([], [], color=colours[row.trial], label=_label(row, is_best=row is best))
        for row in sorted(rows, key=lambda row: row.trial)
        if len(rows) <= _FEW or row is best
    ]
    if len(rows) > _FEW:
        lines.append(Line2D([], [], color=shade(1), label="better"))
        lines.append(Line2D([], [], color=shade(0), label="worse"))
    seen = {row.status for row in rows}
    for status, (marker, words) in _ENDS.items():
        if status in seen:
            lines.append(
                Line2D(
                    [], [], label=words, color=INK, marker=marker, linestyle="none", markersize=5
                )
            )
    axes.legend(handles=lines, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _label(row: TrialRow, *, is_best: bool) -> str:
    return f"trial {row.trial}" + (", the best" if is_best else "")
