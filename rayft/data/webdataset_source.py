"""Sources of kind `webdataset`: samples in tar files.

An index takes some 50 microseconds a member to read, and in an object store the whole file is
fetched for it. So it is remembered, by the file's size and version, where the caller names a place.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from rayft.data.labels import capped, code_labels
from rayft.data.listing import Listing, make_listing, resolve_place
from rayft.data.raw import printable
from rayft.data.remote import in_parallel
from rayft.data.source_files import SourceFile, SourceFiles, find_ranges
from rayft.data.tar_index import TarIndex, Wanted, index_tar
from rayft.data.tar_rows import NOWHERE, TarPart, TarRows
from rayft.errors import DataError, Problem
from rayft.spec.sources import WebDatasetSource
from rayft.storage.location import Location

INDEX_VERSION = 1
"""Raised whenever the same file would be indexed otherwise."""
FILES_AT_ONCE = 4
"""Files of an object store that are indexed at once; each holds five blocks of 4 MiB."""
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def list_webdataset(
    source: WebDatasetSource, *, base_dir: Path, memory: Location | None
) -> Listing:
    """List the samples of tar files, in the order of the files' names and of their members.

    Args:
        source: the source.
        base_dir: the folder that relative paths start from.
        memory: a folder to remember indexes in; None to remember nothing.

    Raises:
        DataError: files are missing or damaged, hold no sample, or labels are missing.
    """
    if source.path.endswith(PACKED):
        what = "packed tar files cannot be read by the places of their members"
        raise DataError(Problem(source.path, what, "unpack them to plain .tar files"))
    found = find_ranges(source.path, base_dir=base_dir, suffix=".tar")
    wanted = Wanted(
        images=tuple(part.strip().lstrip(".").lower() for part in source.image.split(";")),
        label=source.label.lstrip(".").lower(),
        label_key=source.label_key,
    )
    indexes = _indexes(found, wanted, memory)
    where = printable(str(resolve_place(source.path, base_dir=base_dir)))
    if problems := _problems(indexes, wanted, where=where):
        raise DataError(*problems)
    return make_listing(
        where=where,
        labels=code_labels([label for index in indexes for label in index.labels]),
        groups=None,
        reader=_reader(found, indexes, wanted),
    )


def _indexes(found: SourceFiles, wanted: Wanted, memory: Location | None) -> list[TarIndex]:
    index = partial(_remembered, found, wanted=wanted, memory=memory)
    return in_parallel(index, found.files, threads=1 if found.root.is_local else FILES_AT_ONCE)


def _remembered(
    found: SourceFiles, file: SourceFile, *, wanted: Wanted, memory: Location | None
) -> TarIndex:
    place = found.place(file)
    state = file.listed or place.stat()
    if memory is None or state is None:
        return index_tar(place, file.listed, wanted)
    known_by = [INDEX_VERSION, str(place), asdict(state), asdict(wanted)]
    name = hashlib.sha256(json.dumps(known_by).encode()).hexdigest()
    # It only saves time: without it the file is read again.
    with suppress(OSError, ValueError, TypeError):
        return TarIndex(**json.loads((memory / f"{name}.json").read_bytes()))
    index = index_tar(place, file.listed, wanted)
    with suppress(OSError):
        (memory / f"{name}.json").write_bytes(json.dumps(asdict(index)).encode())
    return index


def _problems(indexes: list[TarIndex], wanted: Wanted, *, where: str) -> list[Problem]:
    if not any(index.names for index in indexes):
        what = "it has no sample: no member has a name such as `0001.jpg`"
        return [Problem(where, what, "point the source at tar files of WebDataset samples")]
    endings = sorted({ending for index in indexes for ending in index.extensions})
    problems = []
    if all(offset == NOWHERE for index in indexes for offset in index.offsets):
        what = f"no sample has an image: a member that ends with {' or '.join(wanted.images)}; "
        fix = "set `image` to the image's extension"
        problems.append(Problem(where, f"{what}members end with: {capped(endings)}", fix))
    if all(label is None for index in indexes for label in index.labels):
        named = wanted.label if wanted.label_key is None else f"{wanted.label} `{wanted.label_key}`"
        what = f"no sample has a label: {named}; members end with: {capped(endings)}"
        fix = "set `label` to the extension of the class, and `label_key` where it is JSON"
        problems.append(Problem(where, what, fix))
    return problems


def _reader(found: SourceFiles, indexes: list[TarIndex], wanted: Wanted) -> TarRows:
    parts = tuple(
        TarPart(
            file=file.path,
            names=tuple(index.names),
            offsets=np.array(index.offsets, dtype=np.int64),
            sizes=np.array(index.sizes, dtype=np.int64),
            listed=file.listed,
        )
        for file, index in zip(found.files, indexes, strict=True)
    )
    return TarRows(root=found.root, parts=parts, extensions=" or ".join(wanted.images))
