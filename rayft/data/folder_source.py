"""Sources of kind `folder`: one subfolder for each class."""

import os
from pathlib import Path

from rayft.data.labels import capped, code_labels
from rayft.data.listing import Listing, make_listing, resolve_path
from rayft.data.readers import FileRows, printable
from rayft.errors import DataError, Problem
from rayft.spec.data import FolderSource

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
)
LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})


def list_folder(source: FolderSource, *, base_dir: Path) -> Listing:
    """List the images of a folder with one subfolder per class, subfolders of those included.

    Classes and files come in the order of their names. Hidden files, what operating systems
    leave behind and files without an image suffix are passed over. A link to a file is a row,
    and an unreadable one where it leaves the folder; a link to a folder is never followed.

    Raises:
        DataError: the folder is missing, has no class folders, or one of them has no image.
    """
    root = resolve_path(source.path, base_dir=base_dir, where=source.path)
    where = printable(str(root))
    if not root.is_dir():
        raise DataError(Problem(where, "there is no such folder", "check the source's `path`"))
    entries = list(_entries(root))
    folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    images = {name: image_paths(root, name) for name in folders}
    if problems := _problems(where, entries, images):
        raise DataError(*problems)
    labels = [printable(name) for name, paths in images.items() for _ in paths]
    paths = tuple(path for found in images.values() for path in found)
    reader = FileRows(root=str(root), paths=paths, confined=True)
    return make_listing(where=where, labels=code_labels(labels), groups=None, reader=reader)


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
            entries = [e for e in found if not e.name.startswith(".") and e.name not in LITTER]
    except OSError as error:
        fix = "make the folder readable"
        raise DataError(
            Problem(printable(str(folder)), f"it cannot be listed: {error.strerror}", fix)
        ) from error
    return sorted(entries, key=lambda entry: entry.name)


def _is_image(entry: os.DirEntry[str]) -> bool:
    named_so = Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
    return named_so and (entry.is_symlink() or entry.is_file(follow_symlinks=False))


def _problems(
    where: str, entries: list[os.DirEntry[str]], images: dict[str, list[str]]
) -> list[Problem]:
    problems = []
    if not images:
        what = "it has no subfolder; expected one for each class"
        problems.append(Problem(where, what, "sort the images into a folder for each class"))
    if linked := [e.name for e in entries if e.is_symlink() and e.is_dir()]:
        what = f"class folders are symbolic links: {capped([printable(n) for n in linked])}"
        problems.append(Problem(where, what, "put the folders themselves there"))
    if loose := [entry.name for entry in entries if _is_image(entry) and not entry.is_dir()]:
        what = f"images lie outside any class folder: {capped([printable(n) for n in loose])}"
        problems.append(Problem(where, what, "move them into the folder of their class"))
    if empty := [name for name, paths in images.items() if not paths]:
        what = f"folders hold no image: {capped([printable(n) for n in empty])}"
        fix = f"add images ({', '.join(sorted(IMAGE_SUFFIXES))}), or remove the folders"
        problems.append(Problem(where, what, fix))
    return problems
