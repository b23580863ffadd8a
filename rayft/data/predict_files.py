"""Image files to predict: a folder of any depth, or files by name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, final

import pyarrow as pa

from rayft.data.folder_source import IMAGE_SUFFIXES, LITTER
from rayft.data.predict_rows import RawBatch
from rayft.data.raw import printable
from rayft.data.readers import FileRows
from rayft.data.remote import how_to_test
from rayft.errors import DataError, Problem
from rayft.storage.location import FileState, Location, StorageFault

PATH = "path"
_SCHEMA = pa.schema([(PATH, pa.string())])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FileChunk:
    """Some image files."""

    reader: FileRows

    @property
    def num_rows(self) -> int:
        """Files."""
        return len(self.reader.paths)

    def read(self, rows_per_batch: int) -> Iterator[RawBatch]:
        """Give the files in order, in batches of `rows_per_batch`.

        Raises:
            DataError: an object is gone or another since it was listed, or cannot be reached.
        """
        # Objects are read ahead here; files of this machine by whoever decodes them.
        ahead = None if self.reader.listed is None else self.reader.read()
        for first in range(0, self.num_rows, rows_per_batch):
            part = self.reader.cut(first, min(first + rows_per_batch, self.num_rows))
            count = len(part.paths)
            raws = None if ahead is None else [next(ahead) for _ in range(count)]
            yield RawBatch(
                read=part.read if raws is None else raws.__iter__,
                carried=_paths(part),
                num_rows=count,
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FileInput:
    """All image files that were named."""

    where: str
    reader: FileRows
    version: str
    """Hash of the names, sizes and versions of all files."""

    @property
    def num_rows(self) -> int:
        """Files."""
        return len(self.reader.paths)

    @property
    def carried(self) -> Any:  # noqa: ANN401  pyarrow has no types
        """Schema of the columns that go through to the output."""
        return _SCHEMA

    def is_as_listed(self) -> bool:
        """Return whether the files are still those that were listed, as far as it matters.

        An object is read as the version that was listed or not at all, and a file that was
        replaced meanwhile is one image like any other.
        """
        return True

    def chunks(self, rows: int) -> list[FileChunk]:
        """Cut the files into chunks of `rows`; the last may be shorter."""
        return [
            FileChunk(reader=self.reader.cut(first, first + rows))
            for first in range(0, self.num_rows, rows)
        ]


def list_files_to_predict(places: Sequence[Location], *, where: str) -> FileInput:
    """List image files: `places` are folders, taken with all that lies below, or single files.

    In a folder hidden files, what operating systems leave behind and files without an image
    suffix are passed over; a link to a folder is never followed, and a link to a file that leaves
    the folder is a row that cannot be read. A file that is named itself is always a row.

    Raises:
        DataError: a place is not there, cannot be listed, or holds no image.
    """
    found: dict[Location, dict[str, FileState]] = {}
    problems = []
    for place in places:
        try:
            root, images = _images_at(place)
        except OSError as error:
            problems.append(_cannot_be_listed(place, error))
            continue
        if not images:
            problems.append(_no_image(place))
        found.setdefault(root, {}).update(images)
    if problems:
        raise DataError(*problems)
    only_folder = len(places) == 1 and places[0] in found
    return _input(*_under_one(found), confined=only_folder, where=where)


def _images_at(place: Location) -> tuple[Location, dict[str, FileState]]:
    """Return the folder that names are relative to, and the images by name."""
    if (state := place.stat()) is not None:
        return place.parent, {place.name: state}
    return place, {
        entry.path: FileState(entry.size, entry.version)
        for entry in place.files()
        if _is_image(PurePosixPath(entry.path))
    }


def _is_image(path: PurePosixPath) -> bool:
    litter = any(part.startswith(".") or part in LITTER for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not litter


def _under_one(
    found: Mapping[Location, Mapping[str, FileState]],
) -> tuple[Location, Mapping[str, FileState]]:
    """Bring what lies in several folders under the folder that holds them all."""
    if len(found) == 1:
        return next(iter(found.items()))
    if len({"" if folder.is_local else folder.bucket for folder in found}) > 1:
        what = "files on this machine and in object stores, or in several buckets, are mixed"
        raise DataError(Problem("INPUT", what, "predict them one after another"))
    root = next(iter(found))
    while not all(f"{folder.url}/".startswith(_start(root)) for folder in found):
        root = root.parent
    return root, {
        f"{_start(folder)}{path}".removeprefix(_start(root)): state
        for folder, images in found.items()
        for path, state in images.items()
    }


def _input(
    root: Location, images: Mapping[str, FileState], *, confined: bool, where: str
) -> FileInput:
    paths = sorted(images)
    digest = sha256(f"{root.url}\n".encode("utf-8", "surrogateescape"))
    for path in paths:
        line = f"{path}\n{images[path].size} {images[path].version}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    reader = FileRows(
        root=root,
        paths=tuple(paths),
        confined=confined,
        listed=None if root.is_local else tuple(images[path] for path in paths),
    )
    return FileInput(where=where, reader=reader, version=digest.hexdigest())


def _paths(part: FileRows) -> Any:  # noqa: ANN401  pyarrow has no types
    start = _start(part.root)
    return pa.table({PATH: pa.array([printable(start + path) for path in part.paths])}, _SCHEMA)


def _start(folder: Location) -> str:
    return folder.url.rstrip("/") + "/"


def _cannot_be_listed(place: Location, error: OSError) -> Problem:
    lost = isinstance(error, StorageFault)
    fix = how_to_test(place) if lost else "check the path and its permissions"
    return Problem(printable(str(place)), f"it cannot be read: {error.strerror or error}", fix)


def _no_image(place: Location) -> Problem:
    there = not place.is_local or place.path.is_dir()
    what = "it holds no image" if there else "there is no such file or folder"
    fix = f"name a folder with images ({', '.join(sorted(IMAGE_SUFFIXES))}), or the files"
    return Problem(printable(str(place)), what, fix if there else "check the spelling")
