"""What there is to predict: from the words of a command to rows that can be cut into chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Literal, assert_never

from rayft.data.folder_source import IMAGE_SUFFIXES
from rayft.data.listing import resolve_place
from rayft.data.predict_columns import Wanted
from rayft.data.predict_csv import CsvChunk, CsvInput, list_csv_to_predict
from rayft.data.predict_files import FileChunk, FileInput, list_files_to_predict
from rayft.data.predict_parquet import ParquetChunk
from rayft.data.predict_parquet_input import ParquetInput, list_parquet_to_predict
from rayft.data.raw import printable
from rayft.data.source_files import SourceFiles, find_files
from rayft.errors import DataError, Problem
from rayft.storage.location import Location

Chunk = FileChunk | ParquetChunk | CsvChunk
InputRows = FileInput | ParquetInput | CsvInput

_Kind = Literal["parquet", "csv", "files"]
_BY_SUFFIX: Mapping[str, _Kind] = {".parquet": "parquet", ".csv": "csv"}


@dataclass(frozen=True, slots=True)
class _Named:
    """One INPUT, with what its name says of it."""

    kind: _Kind
    text: str


def find_input(
    inputs: Sequence[str], *, wanted: Wanted, root: str | None, base_dir: Path
) -> InputRows:
    """List what there is to predict, without reading an image.

    Args:
        inputs: folders of images, image files, one CSV file, or parquet files; each may be a
            glob pattern, and an address in an object store.
        wanted: what the user asks of a table's columns.
        root: the folder that paths in a table are relative to; None: the table's own.
        base_dir: the folder that relative paths start from.

    Raises:
        DataError: it cannot be told what the input is, or it cannot be read; with every problem
            that was found.
    """
    where = printable(" ".join(inputs))
    named = [each for text in inputs for each in _named(text, base_dir)]
    if len({each.kind for each in named}) > 1:
        kinds = ", ".join(f"{each.text} ({each.kind})" for each in named[:5])
        what = f"inputs of different kinds: {printable(kinds)}"
        raise DataError(Problem("INPUT", what, "predict each kind by itself"))
    kind = named[0].kind
    texts = list(dict.fromkeys(each.text for each in named))
    if kind == "files":
        _refuse_settings_of_tables(wanted, root)
    named_root = None if root is None else resolve_place(root, base_dir=base_dir)
    match kind:
        case "files":
            places = [resolve_place(text, base_dir=base_dir) for text in texts]
            found: InputRows = list_files_to_predict(places, where=where)
        case "csv":
            place = _only_csv(texts, base_dir)
            found = list_csv_to_predict(place, wanted=wanted, named_root=named_root, where=where)
        case "parquet":
            files = _parquet_files(texts, base_dir)
            found = list_parquet_to_predict(
                files, wanted=wanted, named_root=named_root, where=where
            )
        case _:
            assert_never(kind)
    if not found.num_rows:
        raise DataError(Problem(where, "it has no row", "point INPUT at something with rows"))
    return found


def _named(text: str, base_dir: Path) -> list[_Named]:
    """Tell what an INPUT is; a glob pattern of image files becomes their names."""
    place = resolve_place(text, base_dir=base_dir)
    suffix = Path(place.name).suffix.lower()
    if suffix in _BY_SUFFIX:
        return [_Named(_BY_SUFFIX[suffix], text)]
    if has_magic(text) and not _is_there(place):
        found = _places(find_files(text, base_dir=base_dir, suffix=".image"))
        return [
            _Named(_BY_SUFFIX.get(Path(each.name).suffix, "files"), str(each)) for each in found
        ]
    return [_Named(_kind_of_folder(place), text)]


def _is_there(place: Location) -> bool:
    try:
        return place.exists() or bool(place.children())
    except OSError:
        return True  # Listing it says what is wrong.


def _kind_of_folder(place: Location) -> _Kind:
    """Tell parquet files from images by what lies directly in a folder."""
    try:
        suffixes = {Path(name).suffix.lower() for name in place.children() if name[0] != "."}
    except OSError:
        return "files"  # Listing it says what is wrong.
    if ".parquet" not in suffixes:
        return "files"
    if suffixes & IMAGE_SUFFIXES:
        what = "the folder holds both parquet files and images"
        fix = f"name the parquet files, as in '{place}/*.parquet', or the images"
        raise DataError(Problem(printable(str(place)), what, fix))
    return "parquet"


def _refuse_settings_of_tables(wanted: Wanted, root: str | None) -> None:
    given = {
        "--image": wanted.image is not None,
        "--columns": wanted.columns != "all",
        "--root": root is not None,
    }
    problems = [
        Problem(option, "it has no effect on image files", "remove it")
        for option, is_given in given.items()
        if is_given
    ]
    if problems:
        raise DataError(*problems)


def _only_csv(texts: Sequence[str], base_dir: Path) -> Location:
    places = [
        place
        for text in texts
        for place in (
            _places(find_files(text, base_dir=base_dir, suffix=".csv"))
            if has_magic(text)
            else [resolve_place(text, base_dir=base_dir)]
        )
    ]
    if len(places) > 1:
        what = f"{len(places)} CSV files are named"
        raise DataError(Problem("INPUT", what, "predict them one after another"))
    return places[0]


def _places(files: SourceFiles) -> list[Location]:
    return [files.place(file) for file in files.files]


def _parquet_files(texts: Sequence[str], base_dir: Path) -> SourceFiles:
    found = [find_files(text, base_dir=base_dir, suffix=".parquet") for text in texts]
    return found[0] if len(found) == 1 else _together(found)


def _together(found: Sequence[SourceFiles]) -> SourceFiles:
    """Bring files that were named one by one under the folder that holds them all."""
    root = found[0].root
    while not all(f"{files.root}/".startswith(f"{str(root).rstrip('/')}/") for files in found):
        if root.parent == root:
            what = "files on this machine and in object stores, or in several buckets, are mixed"
            raise DataError(Problem("INPUT", what, "predict them one after another"))
        root = root.parent
    start = f"{str(root).rstrip('/')}/"
    merged = {
        path: type(file)(path=path, listed=file.listed)
        for files in found
        for file in files.files
        if (path := str(files.place(file)).removeprefix(start))
    }
    ordered = sorted(merged.values(), key=lambda file: file.path.split("/"))
    return SourceFiles(root=root, files=tuple(ordered))
