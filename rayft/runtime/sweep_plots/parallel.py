"""Parallel coordinates: a line for each trial through the values of its settings to its result.

Source:
    Inselberg 1985, The plane with parallel coordinates (https://doi.org/10.1007/BF01898350).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from rayft.runtime.sweep_plots.paper import BEST, INK, number_of, paper, png, shade
from rayft.runtime.sweep_plots.scales import Choices, Mark, Range, Scale, metric_range, scale_of
from rayft.runtime.sweep_table import SweepTable, TrialRow
from rayft.runtime.sweep_words import LEFT_OUT, short_names

_SPREAD = 0.05
"""Trials with the same choice pass its mark this far below and above, the better ones higher."""
_LEFT_OUT_AT = -0.16
"""Where trials pass that do not have the setting, below the axis."""
_LONGEST_NOTE = 150


@dataclass(frozen=True, slots=True)
class _Result:
    """The last axis: the better, the higher."""

    scale: Range
    flipped: bool

    def place(self, value: float) -> float:
        at = self.scale.place(value)
        return 1 - at if self.flipped else at

    def marks(self) -> list[Mark]:
        return [(1 - at if self.flipped else at, word) for at, word in self.scale.marks()]


def draw_parallel(table: SweepTable) -> bytes | None:
    """Return the picture as a PNG file; None while no trial has a result."""
    results = {row.trial: row.value for row in table.rows if row.value is not None}
    if not results:
        return None
    head = table.head
    rows = [row for row in table.rows if row.trial in results]
    scales = _scales(rows, head.settings)
    result = _Result(metric_range([*results.values()], head.direction), head.direction == "min")
    names = short_names(head.settings)
    standing = table.standing()
    with paper(max(7.0, 1.9 * len(scales) + 3.0), 4.8) as axes:
        for row in reversed(rows):
            stands = standing[row.trial]
            places = [_place(row, path, scale, stands) for path, scale in scales.items()]
            places.append(result.place(results[row.trial]))
            _draw_trial(axes, places, row, BEST if row is table.best else shade(stands))
        _draw_settings(axes, rows, scales, names)
        _draw_axis(axes, len(scales), head.metric, result.marks())
        axes.set_axis_off()
        axes.set_title(f"{head.name}: settings of each trial, and what it reached", pad=24)
        return png(axes, _notes(table, scales, names, num_drawn=len(rows)))


def _draw_settings(
    axes: Axes, rows: Sequence[TrialRow], scales: Mapping[str, Scale], names: Mapping[str, str]
) -> None:
    """Draw an axis for each setting, with a mark below it where a trial does not have it."""
    lowest = -_SPREAD
    for x, (path, scale) in enumerate(scales.items()):
        marks = scale.marks()
        if any(path not in row.values for row in rows):
            lowest = _LEFT_OUT_AT
            marks.append((lowest, LEFT_OUT))
        _draw_axis(axes, x, names[path], marks)
    axes.set_xlim(-0.35, len(scales) + 0.1)
    axes.set_ylim(lowest - 0.04, 1.12)


def _scales(rows: Sequence[TrialRow], settings: Sequence[str]) -> dict[str, Scale]:
    """Return an axis for each setting that a trial has; choices are numbered as trials are."""
    by_trial = sorted(rows, key=lambda row: row.trial)
    values = {p: [row.values[p] for row in by_trial if p in row.values] for p in settings}
    return {path: scale_of(found) for path, found in values.items() if found}


def _place(row: TrialRow, path: str, scale: Scale, standing: float) -> float:
    if path not in row.values:
        return _LEFT_OUT_AT
    at = scale.place(row.values[path])
    if isinstance(scale, Choices):
        spread = min(_SPREAD, 0.35 / max(1, len(scale.texts) - 1))
        at += spread * (2 * standing - 1)
    return at


def _draw_trial(axes: Axes, places: Sequence[float], row: TrialRow, colour: str) -> None:
    """Draw a line that is level at every axis, so that the eye can follow it through a mark."""
    points, codes = [(0.0, places[0])], [Path.MOVETO]
    for x, (here, there) in enumerate(pairwise(places)):
        points += [(x + 0.4, here), (x + 0.6, there), (x + 1.0, there)]
        codes += [Path.CURVE4] * 3
    patch = PathPatch(
        Path(points, codes),
        facecolor="none",
        edgecolor=colour,
        linewidth=2.4 if colour == BEST else 1.3,
        linestyle="-" if row.status == "finished" else (0, (4, 2)),
        zorder=3 if colour == BEST else 2,
    )
    axes.add_patch(patch)


def _draw_axis(axes: Axes, x: int, title: str, marks: Sequence[Mark]) -> None:
    axes.plot([x, x], [-_SPREAD, 1 + _SPREAD], color=INK, linewidth=1, zorder=4)
    axes.text(x, 1.1, title, ha="center", va="bottom", weight="bold")
    for at, word in marks:
        axes.plot([x - 0.02, x], [at, at], color=INK, linewidth=1, zorder=4)
        axes.text(
            x - 0.03,
            at,
            word,
            ha="right",
            va="center",
            fontsize=9,
            zorder=5,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
        )


def _notes(
    table: SweepTable, scales: Mapping[str, Scale], names: Mapping[str, str], *, num_drawn: int
) -> list[str]:
    """Return what the lines mean, what each number stands for, and what is not drawn."""
    best = table.best
    lines = [
        (f"red: trial {best.trial}, the best; " if best else "")
        + "dark: better; dashed: a trial that did not finish"
    ]
    if left := len(table.rows) - num_drawn:
        lines[0] += f"; {number_of(left, 'trial')} without a result not drawn"
    for path, scale in scales.items():
        legend = scale.words.legend() if isinstance(scale, Choices) else {}
        lines += [f"{names[path]} {word}: {text}"[:_LONGEST_NOTE] for word, text in legend.items()]
    return lines
