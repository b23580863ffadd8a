"""The picture of a range test: loss over the logarithm of the rate. Drawn with Pillow."""

import io
import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rayft.plan.lr_range import LossCurve
from rayft.runtime.find_lr import FoundRate
from rayft.storage.commit import write_file_atomically

_SIZE = (900, 560)
_LEFT, _TOP, _RIGHT, _BOTTOM = 80, 60, 870, 500
_INK, _GRID, _POINTS, _LINE, _MARK = "#222222", "#dddddd", "#9db8d6", "#1f5fa8", "#c0392b"
_NUM_MARKS = 5
_HEADROOM = 1.15
"""The picture ends a little above the highest loss before the lowest: an explosion is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axes:
    """From rates and losses to pixels."""

    first: float
    """Power of ten of the smallest rate."""
    last: float
    low: float
    high: float

    def x(self, rate: float) -> float:
        share = (math.log10(rate) - self.first) / (self.last - self.first)
        return _LEFT + share * (_RIGHT - _LEFT)

    def y(self, loss: float) -> float:
        share = (min(loss, self.high) - self.low) / (self.high - self.low)
        return _BOTTOM - share * (_BOTTOM - _TOP)


def draw_chart(found: FoundRate, file: Path) -> None:
    """Write the picture of a range test as a PNG file."""
    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)
    axes = _axes(found.curve)
    _draw_grid(draw, axes)
    _draw_losses(draw, axes, found.curve)
    title = f"phase {found.phase}: loss at each rate of the fastest group"
    if found.suggestion:
        rate = found.suggestion.rate
        draw.line([(axes.x(rate), _TOP), (axes.x(rate), _BOTTOM)], fill=_MARK, width=2)
        title += f"; suggested {rate:.2g}"
    draw.text((_LEFT, 20), title, fill=_INK, font=ImageFont.load_default(18))
    content = io.BytesIO()
    image.save(content, "PNG")
    write_file_atomically(file, content.getvalue())


def _axes(curve: LossCurve) -> _Axes:
    smoothed = curve.smoothed
    high = max(curve.losses[: smoothed.index(min(smoothed)) + 1]) * _HEADROOM
    low = min(0.0, *curve.losses)
    first = math.floor(math.log10(curve.rates[0]) + 1e-9)
    return _Axes(
        first=first,
        # A test that ends at its first rate has a picture as well.
        last=max(first + 1, math.ceil(math.log10(curve.rates[-1]) - 1e-9)),
        low=low,
        high=max(high, low + 1e-9),
    )


def _draw_grid(draw: ImageDraw.ImageDraw, axes: _Axes) -> None:
    font = ImageFont.load_default(14)
    for power in range(int(axes.first), int(axes.last) + 1):
        x = axes.x(10.0**power)
        draw.line([(x, _TOP), (x, _BOTTOM)], fill=_GRID)
        draw.text((x, _BOTTOM + 8), f"1e{power}", fill=_INK, font=font, anchor="mt")
    for number in range(_NUM_MARKS + 1):
        loss = axes.low + (axes.high - axes.low) * number / _NUM_MARKS
        draw.line([(_LEFT, axes.y(loss)), (_RIGHT, axes.y(loss))], fill=_GRID)
        draw.text((_LEFT - 8, axes.y(loss)), f"{loss:.3g}", fill=_INK, font=font, anchor="rm")
    draw.rectangle([_LEFT, _TOP, _RIGHT, _BOTTOM], outline=_INK)


def _draw_losses(draw: ImageDraw.ImageDraw, axes: _Axes, curve: LossCurve) -> None:
    for rate, loss in zip(curve.rates, curve.losses, strict=True):
        x, y = axes.x(rate), axes.y(loss)
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=_POINTS)
    line = [(axes.x(r), axes.y(s)) for r, s in zip(curve.rates, curve.smoothed, strict=True)]
    draw.line(line, fill=_LINE, width=3, joint="curve")
