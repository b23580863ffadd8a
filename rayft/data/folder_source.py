"""Sources of kind `folder`: one subfolder for each class."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rayft.data.labels import CodedLabels, capped, code_labels
from rayft.data.listing import Listing, make_listing, resolve_place
from rayft.data.raw import printable
from rayft.data.readers import FileRows
from rayft.data.remote import list_files
from rayft.errors import DataError, Problem
from rayft.spec.sources import FolderSource
from rayft.storage.location import FileEntry, FileState, Location

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
)
LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})


def list_folder(source: FolderSource, *, base_dir: Path) -> Listing:
    """List the images of a folder with one subfolder per class, subfolders of those included.

    Classes and files come in the order of their names. Hidden files, what operating systems
    leave behind and files without an image suffix are passed over. A link to a file is a row,
    and an unreadable one where it leaves the folder; a link to a folder is never followed.
    A folder of an object store is listed once, whatever it holds.

    Raises:
        DataError: the folder is missing, has no class folders, or one of them has no image.
    """
    place = resolve_place(source.path, base_dir=base_dir)
    return _list_local(place) if place.is_local else _list_remote(place)


def _list_local(place: Location) -> Listing:
    root, where = place.path, printable(str(place))
    if not root.is_dir():
        raise _missing(where)
    entries = list(_entries(root))
    folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    images = {name: image_paths(root, name) for name in folders}
    linked = [e.name for e in entries if e.is_symlink() and e.is_dir()]
    loose = [entry.name for entry in entries if _is_image(entry) and not entry.is_dir()]
    if problems := _problems(where, images, linked=linked, loose=loose):
        raise DataError(*problems)
    paths = tuple(path for found in images.values() for path in found)
    reader = FileRows(root=place, paths=paths, confined=True)
    return make_listing(where=where, labels=_labels(images), groups=None, reader=reader)


def _list_remote(place: Location) -> Listing:
    entries = {entry.path: entry for entry in list_files(place)}
    if not entries:
        raise _missing(str(place))
    # By parts, as a walk through folders gives them: a copy on a disk has the same rows.
    seen = [parts for path in entries if not _is_litter(parts := path.split("/"))]
    images: dict[str, list[str]] = {parts[0]: [] for parts in sorted(seen) if len(parts) > 1}
    for parts in sorted(parts for parts in seen if _is_image_name(parts[-1])):
        if len(parts) > 1:
            images[parts[0]].append("/".join(parts))
    loose = sorted(parts[0] for parts in seen if len(parts) == 1 and _is_image_name(parts[0]))
    if problems := _problems(str(place), images, linked=(), loose=loose):
        raise DataError(*problems)
    paths = tuple(path for found in images.values() for path in found)
    listed = tuple(_state(entries[path]) for path in paths)
    reader = FileRows(root=place, paths=paths, confined=True, listed=listed)
    return make_listing(where=str(place), labels=_labels(images), groups=None, reader=reader)


def _missing(where: str) -> DataError:
    return DataError(Problem(where, "there is no such folder", "check the source's `path`"))


def _labels(images: dict[str, list[str]]) -> CodedLabels:
    classes = {folder: printable(folder) for folder in images}
    return code_labels([classes[folder] for folder, paths in images.items() for _ in paths])


def _state(entry: FileEntry) -> FileState:
    return FileState(entry.size, entry.version)


def image_paths(root: Path, folder: str) -> list[str]:
    """Return the images below `root/folder`, relative to `root`, in the order of their names."""
    paths = []
    for entry in _entries(root / folder):
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            paths.extend(image_paths(root, path))
        elif _is_image(entry):
            paths.append(path)
    return paths


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = [e for e in found if not _is_litter([e.name])]
    except OSError as error:
        fix = "make the folder readable"
        raise DataError(
            Problem(printable(str(folder)), f"it cannot be listed: {error.strerror}", fix)
        ) from error
    return sorted(entries, key=lambda entry: entry.name)


def _is_litter(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") or part in LITTER for part in parts)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return _is_image_name(entry.name) and (
        entry.is_symlink() or entry.is_file(follow_symlinks=False)
    )


def _is_image_name(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _problems(
    where: str, images: dict[str, list[str]], *, linked: Sequence[str], loose: Sequence[str]
) -> list[Problem]:
    problems = []
    if not images:
        what = "it has no subfolder; expected one for each class"
        problems.append(Problem(where, what, "sort the images into a folder for each class"))
    if linked:
        what = f"class folders are symbolic links: {capped([printable(n) for n in linked])}"
        problems.append(Problem(where, what, "put the folders themselves there"))
    if loose:
        what = f"images lie outside any class folder: {capped([printable(n) for n in loose])}"
        problems.append(Problem(where, what, "move them into the folder of their class"))
    if empty := [name for name, paths in images.items() if not paths]:
        what = f"folders hold no image: {capped([printable(n) for n in empty])}"
        fix = f"add images ({', '.join(sorted(IMAGE_SUFFIXES))}), or remove the folders"
        problems.append(Problem(where, what, fix))
    return problems
