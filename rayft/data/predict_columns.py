"""Which column holds the images to predict, and which go through to the output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rayft.data.inspect import IMAGE_NAMES
from rayft.data.listing import missing_column
from rayft.errors import DataError, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user asks of a table's columns."""

    image: str | None
    """Column with the images; None: it is found by its type and name."""
    columns: tuple[str, ...] | Literal["all"]
    """Columns that go through; `all`: every column but encoded images."""
    usual_images: tuple[str, ...] = ()
    """Names that the image column had in training."""


def find_image(
    wanted: Wanted, kinds: Mapping[str, Literal["image", "text", "other"]], *, where: str
) -> str:
    """Return the column with the images.

    Args:
        wanted: what the user asks.
        kinds: for each column whether it can hold encoded images, or text that can be paths.
        where: the table, as messages name it.

    Raises:
        DataError: the column is not there or of the wrong type, or none can be told.
    """
    if wanted.image is not None:
        if wanted.image not in kinds:
            raise DataError(
                missing_column(wanted.image, list(kinds), where=where, setting="--image")
            )
        if kinds[wanted.image] == "other":
            what = f"column {wanted.image!r} holds neither images nor paths"
            fix = "set --image to a column of bytes, of structs with `bytes`, or of text"
            raise DataError(Problem(where, what, fix))
        return wanted.image
    images = [name for name, kind in kinds.items() if kind == "image"]
    texts = [name for name, kind in kinds.items() if kind == "text"]
    usual = (*wanted.usual_images, *IMAGE_NAMES)
    found = _first(usual, images) or (images[0] if len(images) == 1 else _first(usual, texts))
    if found is None:
        what = f"it cannot be told which column holds the images: {', '.join(list(kinds)[:20])}"
        raise DataError(Problem(where, what, "name it with --image"))
    return found


def _first(usual: Sequence[str], present: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(present)}
    return next((lower[name.lower()] for name in usual if name.lower() in lower), None)


def choose_carried(
    wanted: Wanted, present: Sequence[str], *, is_image: Callable[[str], bool], where: str
) -> tuple[str, ...]:
    """Return the columns that go through to the output.

    Args:
        wanted: what the user asks.
        present: the table's columns.
        is_image: tells whether a column holds encoded images, which `all` leaves out.
        where: the table, as messages name it.

    Raises:
        DataError: a column is not there, is named twice, or stands twice in the table.
    """
    if wanted.columns == "all":
        chosen = tuple(name for name in present if not is_image(name))
    else:
        chosen = wanted.columns
        if missing := [name for name in chosen if name not in present]:
            raise DataError(
                *(
                    missing_column(name, present, where=where, setting="--columns")
                    for name in missing
                )
            )
    if twice := sorted({n for n in chosen if chosen.count(n) > 1 or present.count(n) > 1}):
        what = f"columns stand there twice: {', '.join(map(repr, twice))}"
        raise DataError(Problem(where, what, "name each column once, with --columns"))
    return chosen
