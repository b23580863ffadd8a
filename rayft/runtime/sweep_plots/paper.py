"""How all pictures of a sweep look, and how they become PNG files."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

INK, PALE, GRID, LINE, BEST = "#222222", "#8a8a8a", "#dddddd", "#1f5fa8", "#c0392b"
_PIXELS_PER_INCH = 110
_SHADES = LinearSegmentedColormap.from_list("rayft", ["#d3dfec", "#7ea6d0", LINE])


@contextmanager
def paper(width: float, height: float) -> Iterator[Axes]:
    """Give one empty plot of a size in inches."""
    style = mpl.rc_context(
        {
            # Names and values are text, whatever dollars they hold.
            "text.parse_math": False,
            "text.color": INK,
            "font.size": 10,
            "axes.edgecolor": INK,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
        }
    )
    with style:
        yield Figure(figsize=(width, height), layout="constrained").add_subplot()


def png(axes: Axes, notes: Sequence[str] = ()) -> bytes:
    """Return a plot as a PNG file, the notes below it; the same plot gives the same bytes."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    if notes:
        figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=8, color=INK)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_PIXELS_PER_INCH, metadata={"Software": None})
    return content.getvalue()


def shade(place: float) -> str:
    """Return a colour for a trial: pale at 0, the worst, and full at 1, the best."""
    # A whole number would be taken for an index into the colours.
    return to_hex(_SHADES(float(place)))


def number_of(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
