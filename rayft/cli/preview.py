"""`rayft preview`: a contact sheet of rows and their augmented views."""

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rayft.cli.command import Output
from rayft.cli.output_file import check_output_file
from rayft.cli.progress import Progress
from rayft.errors import Problem, SpecError
from rayft.plan.borders import check_borders
from rayft.plan.facts import SplitName
from rayft.runtime.launch import connect_if_told, start_ray
from rayft.runtime.nodes import check_nodes
from rayft.runtime.preflight import Places, input_size, places_of, prepare_rows
from rayft.runtime.preview import Preview, is_prepared, preview
from rayft.spec.load import load_spec
from rayft.spec.mix import acting
from rayft.spec.run import RunSpec
from rayft.storage.check import check_storage
from rayft.storage.commit import write_file_atomically
from rayft.transforms.shown import as_shown, shown_in_words

_VIEWS = 6
_SMALLEST_TILE = 96
"""Pixels; smaller images are shown enlarged, each of their pixels as a square."""
_GAP, _MARGIN, _LINE, _TEXT = 6, 12, 17, 13
_PAPER, _INK, _PALE = (255, 255, 255), (20, 20, 20), (110, 110, 110)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewOptions:
    """What to show, and where."""

    split: SplitName = "train"
    num_rows: int = 8
    num_views: int | None = None
    output: Path = Path("preview.png")


def write_preview(
    path: Path, overrides: Sequence[str], options: PreviewOptions, out: Output
) -> None:
    """Prepare the rows of a spec where they are not, and write the sheet.

    Raises:
        SpecError: an option has no effect or is out of range.
        DataError: the sheet cannot be written, or the rows cannot be read.
    """
    _check(options)
    out.loaded = load_spec(path, overrides)
    spec = out.loaded.spec
    places = places_of(spec)
    check_storage(places.storage_path, setting="storage_path")
    if options.split == "train":
        check_borders(spec.augment, image_size=input_size(spec))
    with Progress(out.console) as progress:
        prepared = prepare_rows(
            spec, places, use_ray=_takes_ray(spec, places), on_rows=progress.on_rows
        )
    found = preview(
        spec,
        prepared,
        split=options.split,
        num_rows=options.num_rows,
        num_views=options.num_views or _VIEWS,
    )
    file = io.BytesIO()
    draw_sheet(found, header(spec, found, options.split)).save(file, "PNG")
    write_file_atomically(options.output, file.getbuffer())
    views = "1 view" if len(found.views) == 1 else f"{len(found.views)} views"
    out.say(f"{options.output}: {len(found.row_ids)} rows, {views} of each")
    out.next("rayft", "train", path, *overrides)
    out.result(
        {
            "status": "written",
            "output": str(options.output),
            "rows": found.row_ids.tolist(),
            "views": len(found.views),
        }
    )


def header(spec: RunSpec, found: Preview, split: SplitName) -> list[str]:
    """Return the lines above the images: what is shown, and by which operations it came about."""
    size, stored = found.views.shape[2], found.stored.shape[1]
    lines = [
        f"{spec.name}: {split} rows stored at {stored} x {stored}, seen at {size} x {size}, "
        f"seed {spec.seed}"
    ]
    if told := shown_in_words(found.stored.shape[3]):
        lines.append(told)
    if split != "train":
        return [*lines, "evaluation sees the middle"]
    for number, operation in enumerate(spec.augment, start=1):
        settings = operation.model_dump(exclude={"kind"}).items()
        told = ", ".join(f"{name} {_in_words(value)}" for name, value in settings)
        lines.append(f"{number}. {operation.kind}: {told}")
    if not spec.augment:
        lines.append("no augmentation: every epoch sees the same")
    if mixes := acting(spec.mix):
        lines.append(f"before {' and '.join(mix.kind for mix in mixes)}")
    lines += [
        f"before phase {phase.name} scales them to {phase.image_size} x {phase.image_size}"
        for phase in spec.phases
        if phase.image_size is not None
    ]
    if spec.data.order == "balanced":
        told = "each row's uses from the first, however many fall into an epoch"
        lines.append(f"order balanced: {told}")
    return lines


def draw_sheet(found: Preview, lines: Sequence[str]) -> Image.Image:
    """Draw the sheet: a line of images for each row, its class under it.

    Args:
        found: the images.
        lines: the text above them; lines that are too long go on below.
    """
    tiles = [found.stored, *found.views]
    sizes = [_enlarged(images.shape[1]) for images in tiles]
    lefts = [_MARGIN + sum(sizes[:i]) + _GAP * i for i in range(len(tiles))]
    width = lefts[-1] + sizes[-1] + _MARGIN
    font = ImageFont.load_default(_TEXT)
    letters = max(1, int((width - 2 * _MARGIN) / font.getlength("n")))
    text = [part for line in lines for part in _wrapped(line, letters)]
    top = _MARGIN + _LINE * (len(text) + 1) + _GAP
    step = max(sizes) + _LINE + 2 * _GAP
    sheet = Image.new("RGB", (width, top + step * len(found.row_ids) + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, piece in enumerate(text):
        pen.text((_MARGIN, _MARGIN + _LINE * number), piece, _INK, font)
    for left, title in zip(lefts, ["stored", *found.seen_in], strict=True):
        pen.text((left, top - _LINE), title, _PALE, font)
    for place, (row_id, name) in enumerate(zip(found.row_ids, found.classes, strict=True)):
        for left, size, images in zip(lefts, sizes, tiles, strict=True):
            sheet.paste(_tile(images[place], size), (left, top + step * place))
        under = top + step * place + max(sizes) + 1
        pen.text((_MARGIN, under), f"{name}  (row {row_id})", _INK, font)
    return sheet


def _wrapped(line: str, letters: int) -> list[str]:
    return textwrap.wrap(line, letters, subsequent_indent="   ")


def _tile(pixels: Pixels, size: int) -> Image.Image:
    return Image.fromarray(as_shown(pixels)).resize((size, size), Image.Resampling.NEAREST)


def _enlarged(size: int) -> int:
    return size * math.ceil(_SMALLEST_TILE / size)


def _in_words(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_in_words, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _takes_ray(spec: RunSpec, places: Places) -> bool:
    """Start Ray where rows have to be prepared and the spec trains on it, as `prepare` does."""
    if spec.scaling.num_workers == 0:
        return False
    connect_if_told()
    if is_prepared(spec, places):
        return False
    start_ray()
    check_nodes(places.storage_path)
    return True


def _check(options: PreviewOptions) -> None:
    problems = [
        Problem(name, f"expected 1 or more, found {number}", "ask for some")
        for name, number in (("--rows", options.num_rows), ("--views", options.num_views))
        if number is not None and number < 1
    ]
    if options.split != "train" and options.num_views is not None:
        what = f"it has no effect on {options.split} rows, which are always seen alike"
        problems.append(Problem("--views", what, "remove it"))
    if problems:
        raise SpecError(*problems)
    check_output_file(options.output, option="--output", such_as="preview.png")
