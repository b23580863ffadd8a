"""The files that a source's `path` means: a file, a folder, a glob pattern or a range of names."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import glob, has_magic
from itertools import islice, product
from pathlib import Path
from typing import final

from rayft.data.labels import capped
from rayft.data.listing import resolve_place
from rayft.data.raw import printable
from rayft.data.remote import is_remote, list_files, look_up, look_up_all
from rayft.errors import DataError, Problem
from rayft.storage.location import FileState, Location

MOST_NAMES = 1_000_000
"""Most names that braces may stand for."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"^(\d+)\.\.(\d+)$")

Found = tuple[Location, FileState | None]
"""A file, and for an object its size and version."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a source."""

    path: str
    """Relative to the folder of all files."""
    listed: FileState | None
    """Size and version of an object when it was listed; None for a file on this machine."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFiles:
    """The files of a source, in the order of their names."""

    root: Location
    """The folder that holds all of them."""
    files: tuple[SourceFile, ...]

    def place(self, file: SourceFile) -> Location:
        """Return where a file lies."""
        return self.root / file.path


def find_files(path: str, *, base_dir: Path, suffix: str) -> SourceFiles:
    """Return the files that a path means, in the order of their names.

    Args:
        path: a file, a folder or a glob pattern; hidden files are passed over in the last two.
        base_dir: the folder that a relative path starts from.
        suffix: how the names of files end that count in a folder, such as `.tar`.

    Raises:
        DataError: there is no such file, or the object store cannot be reached.
    """
    if is_remote(path):
        found = _objects(path, base_dir=base_dir, suffix=suffix)
    else:
        found = _local_files(path.removeprefix("file://"), base_dir=base_dir, suffix=suffix)
    if not found:
        where = printable(str(resolve_place(path, base_dir=base_dir)))
        what = f"no {suffix[1:]} file is there; expected a file, a folder or a glob pattern"
        raise DataError(Problem(where, what, "check the source's `path`"))
    return _gathered(found)


def find_ranges(path: str, *, base_dir: Path, suffix: str) -> SourceFiles:
    """Return the files that a path with ranges (`{000..099}`) or lists (`{a,b}`) means.

    Raises:
        DataError: as `find_files` raises it, or some of the names are missing.
    """
    names = [path]
    if _BRACES.search(path) and not _is_there(path, base_dir=base_dir):
        names = expand_braces(path)
    if any(has_magic(name) for name in names) or len(names) == 1:
        parts = [find_files(name, base_dir=base_dir, suffix=suffix) for name in names]
        return _gathered([(part.place(f), f.listed) for part in parts for f in part.files])
    places = [resolve_place(name, base_dir=base_dir) for name in names]
    states = _states(places)
    if missing := [printable(str(place)) for place in places if place not in states]:
        what = f"{len(missing)} of {len(places)} files are missing: {capped(missing)}"
        raise DataError(Problem(path, what, "check the range in the source's `path`"))
    return _gathered(states.items())


def expand_braces(path: str) -> list[str]:
    """Return the names that a pattern stands for, numbers with their leading zeros.

    Raises:
        DataError: there are too many.
    """
    pieces = _BRACES.split(path)
    options = [_options(text) if place % 2 else [text] for place, text in enumerate(pieces)]
    names = ["".join(parts) for parts in islice(product(*options), MOST_NAMES + 1)]
    if len(names) > MOST_NAMES:
        what = f"its braces stand for more than {MOST_NAMES:,} names"
        raise DataError(Problem(path, what, "check the ranges in the source's `path`"))
    return names


def _options(text: str) -> Sequence[str]:
    if (match := _RANGE.match(text)) is None:
        return text.split(",")
    first, last = int(match[1]), int(match[2])
    width = len(match[1]) if match[1].startswith("0") else 0
    step = 1 if first <= last else -1
    numbers = islice(range(first, last + step, step), MOST_NAMES + 1)
    return [str(number).zfill(width) for number in numbers]


def _is_there(path: str, *, base_dir: Path) -> bool:
    place = resolve_place(path, base_dir=base_dir)
    return place.path.exists() if place.is_local else look_up(place) is not None


def _states(places: Sequence[Location]) -> dict[Location, FileState | None]:
    """Return the places that are there; an object with its state."""
    if places[0].is_local:
        return {place: None for place in places if place.path.is_file()}
    root = _common_folder(places)
    paths = {_relative(place, root): place for place in places}
    found = look_up_all(root, paths)
    return {place: found[path] for path, place in paths.items() if path in found}


def _local_files(path: str, *, base_dir: Path, suffix: str) -> list[Found]:
    full = resolve_place(path, base_dir=base_dir).path
    if full.is_file():
        return [(Location(str(full)), None)]
    if full.is_dir():
        found = [file for file in full.glob(f"*{suffix}") if not file.name.startswith(".")]
    else:
        # Relative to a root, so that brackets in `base_dir` are not taken for a pattern.
        names = glob(str(Path(path).expanduser()), root_dir=base_dir)  # noqa: PTH207  as said
        found = [(base_dir / name).absolute() for name in names]
    return [(Location(_plain(file)), None) for file in found if file.is_file()]


def _plain(file: Path) -> str:
    """Return a path without `..`, followed as the system does it."""
    return str(file.parent.resolve() / file.name if ".." in file.parts else file)


def _objects(path: str, *, base_dir: Path, suffix: str) -> list[Found]:
    place = resolve_place(path, base_dir=base_dir)
    if "/" in place.url.partition("://")[2] and (state := look_up(place)) is not None:
        return [(place, state)]
    parts = path.split("/")
    fixed = next((index for index, part in enumerate(parts) if has_magic(part)), len(parts))
    pattern = parts[fixed:] or [f"*{suffix}"]
    folder = resolve_place("/".join(parts[:fixed]), base_dir=base_dir)
    return [
        (folder / entry.path, FileState(entry.size, entry.version))
        for entry in list_files(folder)
        if _matches(entry.path.split("/"), pattern)
    ]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Match part by part, as `glob` does: `*` stays within a part and passes over hidden names."""
    return len(parts) == len(pattern) and all(
        fnmatchcase(part, wanted) and (wanted.startswith(".") or not part.startswith("."))
        for part, wanted in zip(parts, pattern, strict=True)
    )


def _gathered(found: Iterable[Found]) -> SourceFiles:
    states = dict(found)
    root = _common_folder(list(states))
    files = [SourceFile(path=_relative(place, root), listed=s) for place, s in states.items()]
    return SourceFiles(root=root, files=tuple(sorted(files, key=lambda file: file.path.split("/"))))


def _common_folder(places: Sequence[Location]) -> Location:
    root = places[0].parent
    while not all(place.url.startswith(_prefix(root)) for place in places):
        root = root.parent
    return root


def _relative(place: Location, root: Location) -> str:
    return place.url.removeprefix(_prefix(root))


def _prefix(root: Location) -> str:
    return root.url.rstrip("/") + "/"
