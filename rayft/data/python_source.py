"""Sources of kind `python`: rows from the user's own function."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from rayft.data.labels import capped, code_labels
from rayft.data.listing import Listing, hash_groups, make_listing
from rayft.data.readers import FileRows, Raw, Reader, ValueRows
from rayft.errors import DataError, Problem, RayftError
from rayft.spec.data import FILE_CHANNELS, RGB
from rayft.spec.sources import PythonSource
from rayft.storage.location import Location
from rayft.transforms.decode import Unreadable, in_channels

RowsFunction = Callable[..., Iterable[Mapping[str, object]]]


def list_python(source: PythonSource, *, base_dir: Path, channels: int = RGB) -> Listing:
    """Call the user's function once, here, and take all of its rows.

    Args:
        source: the source.
        base_dir: the folder that relative paths start from.
        channels: those that Pillow images are brought to; arrays and files stay as they are.

    Raises:
        DataError: the function cannot be found or raises, or a row breaks the contract.
    """
    with _importable(Path.cwd(), base_dir):
        rows = _pull(_resolve(source.function), source)
    if problems := _row_problems(rows, where=source.function):
        raise DataError(*problems)
    images = [row["image"] for row in rows]
    grouped = any(row.get("group") is not None for row in rows)
    return make_listing(
        where=source.function,
        labels=code_labels([_text(row["label"]) for row in rows]),
        groups=hash_groups(_text(row.get("group")) for row in rows) if grouped else None,
        reader=_reader(images, base_dir=base_dir, channels=channels),
    )


@contextmanager
def _importable(*folders: Path) -> Iterator[None]:
    """Let the user's modules be found, for the length of the block only."""
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _resolve(dotted: str) -> RowsFunction:
    module_name, _, name = dotted.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        fix = f"check the name; modules are looked for in {Path.cwd()} and among installed packages"
        raise DataError(Problem(dotted, f"there is no module {error.name!r}", fix)) from error
    except Exception as error:
        raise DataError(_raised(dotted, "importing the module", error)) from error
    function = getattr(module, name, None)
    if not callable(function):
        what = f"module {module_name!r} has no function {name!r}"
        raise DataError(Problem(dotted, what, "check the name after the colon"))
    found: RowsFunction = function
    return found


def _pull(function: RowsFunction, source: PythonSource) -> list[Mapping[str, object]]:
    try:
        return list(function(**source.args))
    except RayftError:
        raise
    except Exception as error:
        raise DataError(_raised(source.function, "the function", error)) from error


def _raised(where: str, what: str, error: Exception) -> Problem:
    frames = traceback.extract_tb(error.__traceback__)
    last = traceback.format_exception_only(error)[-1].strip()
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return Problem(
        where, f"{what} raised {last}{place}", "mend the function; run it by itself first"
    )


def _row_problems(rows: list[Mapping[str, object]], *, where: str) -> list[Problem]:
    wrong = [
        f"row {index}: {fault}"
        for index, row in enumerate(rows)
        if (fault := _row_fault(row)) is not None
    ]
    if not wrong:
        return []
    fix = "yield mappings with `image` (uint8 array, bytes or path) and `label` (text or integer)"
    return [Problem(where, f"{len(wrong)} rows break the contract: {capped(wrong)}", fix)]


def _row_fault(row: object) -> str | None:
    if not isinstance(row, Mapping):
        return f"it is a {type(row).__name__}, not a mapping"
    if missing := [name for name in ("image", "label") if name not in row]:
        return f"it lacks {' and '.join(missing)}"
    image, label = row["image"], row["label"]
    if not isinstance(image, np.ndarray | bytes | bytearray | str | os.PathLike | Image.Image):
        return f"its image is a {type(image).__name__}"
    if isinstance(image, str) and "://" in image:
        return f"its image is the address {image!r}, not a path on this machine"
    if isinstance(image, np.ndarray) and image.dtype != np.uint8:
        return f"its image is an array of {image.dtype}, not uint8"
    if not isinstance(label, str | int | np.integer | None) and not _is_nan(label):
        return f"its label is a {type(label).__name__}"
    return None


def _is_nan(value: object) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _text(value: object) -> str | None:
    return None if value is None or _is_nan(value) else str(value) or None


def _reader(images: list[object], *, base_dir: Path, channels: int) -> Reader:
    paths = [str(base_dir / Path(i).absolute()) for i in images if isinstance(i, str | os.PathLike)]
    if images and len(paths) == len(images):
        # Files stay where they are and are read where shards are made.
        root = os.path.normpath(os.path.commonpath([Path(path).parent for path in paths]))
        relative = tuple(os.path.relpath(path, root) for path in paths)
        return FileRows(root=Location(root), paths=relative, confined=False)
    return ValueRows(
        values=[_value(image, base_dir=base_dir, channels=channels) for image in images]
    )


def _value(image: object, *, base_dir: Path, channels: int) -> Raw:
    match image:
        case bytes() | bytearray():
            return bytes(image)
        case np.ndarray():
            return np.ascontiguousarray(image)
        case Image.Image():
            try:
                wanted = channels if channels in FILE_CHANNELS else RGB
                return np.asarray(in_channels(image, wanted), dtype=np.uint8)
            except (OSError, ValueError) as error:
                return Unreadable(f"it cannot be decoded: {error}")
        case _:
            try:
                return (base_dir / str(image)).read_bytes()
            except OSError as error:
                return Unreadable(f"{image} cannot be read: {error.strerror}")
