"""A contact sheet: the first examples of a finding as one picture."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from rayft.data.report.finding import Example, Finding
from rayft.data.report.rows import ReportRows, RowName
from rayft.transforms.shown import as_shown

MAX_TILES = 40
_SIDE = 96
_CAPTION = 26
_GAP = 8
_COLUMNS = 10
_LETTERS = 16
"""Letters of a caption that fit below a picture."""


def contact_sheet(rows: ReportRows, finding: Finding) -> bytes | None:
    """Return a PNG file of the worst examples of a finding; pairs stand side by side.

    Of more channels than three the first three are shown, of two the first.

    None where the finding has no picture to show.
    """
    tiles = _tiles(finding.examples)
    if not tiles:
        return None
    width, height = _SIDE + _GAP, _SIDE + _CAPTION + _GAP
    lines = -(-len(tiles) // _COLUMNS)
    columns = min(len(tiles), _COLUMNS)
    sheet = Image.new("RGB", (columns * width + _GAP, lines * height + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for number, (place, name) in enumerate(tiles):
        line, column = divmod(number, _COLUMNS)
        left, top = _GAP + column * width, _GAP + line * height
        tile = Image.fromarray(as_shown(rows.image(place)))
        tile = tile.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        sheet.paste(tile, (left, top))
        for index, text in enumerate((f"{name.split} {name.label}", name.file)):
            place_below = (left, top + _SIDE + 1 + 12 * index)
            draw.text(place_below, _caption(text), fill="black", font=font)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _tiles(examples: Sequence[Example]) -> list[tuple[int, RowName]]:
    tiles: list[tuple[int, RowName]] = []
    for example in examples:
        names = [name for name in (example.row, example.like) if name is not None]
        if len(tiles) + len(example.places) > MAX_TILES:
            break
        tiles += zip(example.places, names, strict=False)
    return tiles


def _caption(text: str) -> str:
    """Return the end of a text, which tells files apart, in letters that any font has."""
    plain = text.encode("ascii", "replace").decode()
    return plain if len(plain) <= _LETTERS else f"..{plain[2 - _LETTERS :]}"
