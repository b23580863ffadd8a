"""Sources of kind `parquet`: images and labels in columns of parquet files.

Labels are numbered batch by batch, so that a source of ten million rows is listed in the memory
of its numbers. Only a column of paths is held as text.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rayft.data.csv_source import confined_files
from rayft.data.labels import CodedLabels, LabelCoder
from rayft.data.listing import Listing, group_hash, make_listing, missing_column, resolve_place
from rayft.data.parquet_files import (
    is_image_type,
    is_label_type,
    is_text_type,
    open_parquet,
    read_footer,
    refusing_damage,
)
from rayft.data.raw import printable
from rayft.data.readers import ParquetPart, ParquetRows, Reader
from rayft.data.remote import in_parallel
from rayft.data.source_files import SourceFile, SourceFiles, find_files
from rayft.errors import DataError, Problem
from rayft.spec.sources import ParquetSource

ROWS_PER_SCAN = 65_536
Numbers = Callable[[str | None], int]


def list_parquet(source: ParquetSource, *, base_dir: Path) -> Listing:
    """List the rows of parquet files, in the order of the files' names.

    Raises:
        DataError: files or columns are missing or of the wrong type, or labels are missing.
    """
    where = printable(str(resolve_place(source.path, base_dir=base_dir)))
    found = find_files(source.path, base_dir=base_dir, suffix=".parquet")
    footers = _each(found, lambda file: read_footer(found.place(file), file.listed))
    problems = [
        problem
        for file, (schema, _) in zip(found.files, footers, strict=True)
        for problem in _schema_problems(source, schema, where=printable(str(found.place(file))))
    ]
    if problems := problems or _mixed(source, found, [schema for schema, _ in footers]):
        raise DataError(*problems[:10])
    kind = footers[0][0].field(source.image).type
    labels = _labels(source, found)
    groups = _groups(source, found)
    reader = _reader(source, found, kind, rows=[rows for _, rows in footers], where=where)
    return make_listing(where=where, labels=labels, groups=groups, reader=reader)


def _each(found: SourceFiles, function: Callable[[SourceFile], Any]) -> list[Any]:
    """Call a function on each file; on several at once where that hides an object store's delay."""
    return in_parallel(function, found.files, threads=1 if found.root.is_local else None)


def _schema_problems(source: ParquetSource, schema: Any, *, where: str) -> list[Problem]:  # noqa: ANN401
    wanted = {"image": source.image, "label": source.label}
    if source.group is not None:
        wanted["group"] = source.group
    problems = []
    for setting, name in wanted.items():
        if name not in schema.names:
            problems.append(missing_column(name, schema.names, where=where, setting=setting))
            continue
        kind = schema.field(name).type
        if setting == "image" and not (is_image_type(kind) or is_text_type(kind)):
            expected = "binary, a struct with `bytes`, or text with paths"
        elif setting != "image" and not is_label_type(kind):
            expected = "text or integers"
        else:
            continue
        what = f"column {name!r} has type {kind}; expected {expected}"
        problems.append(Problem(where, what, f"set `{setting}` to another column"))
    return problems


def _mixed(source: ParquetSource, found: SourceFiles, schemas: list[Any]) -> list[Problem]:
    """Find files that hold images in another way than the first does."""
    kinds = [schema.field(source.image).type for schema in schemas]
    first = found.files[0].path
    return [
        Problem(
            printable(str(found.place(file))),
            f"column {source.image!r} has type {kind}, and {kinds[0]} in {printable(first)}",
            "write the files alike, or make them sources of their own",
        )
        for file, kind in zip(found.files, kinds, strict=True)
        if (pa.types.is_struct(kind), is_text_type(kind))
        != (pa.types.is_struct(kinds[0]), is_text_type(kinds[0]))
    ]


def _labels(source: ParquetSource, found: SourceFiles) -> CodedLabels:
    coder = LabelCoder()
    return coder.coded(_numbers(found, source.label, coder.number, np.int32))


def _groups(source: ParquetSource, found: SourceFiles) -> npt.NDArray[np.uint64] | None:
    if source.group is None:
        return None
    return _numbers(found, source.group, group_hash, np.uint64)


def _numbers(found: SourceFiles, column: str, number: Numbers, dtype: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    """Return a number for each row's text in a column, in the order of files and rows."""

    def scan(file: SourceFile) -> npt.NDArray[Any]:
        parts = [_in_numbers(texts, number, dtype) for texts in _texts(found, file, column)]
        return np.concatenate([np.empty(0, dtype), *parts])

    return np.concatenate(_each(found, scan))


def _in_numbers(texts: Any, number: Numbers, dtype: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    encoded = texts.dictionary_encode()
    names = [*encoded.dictionary.to_pylist(), None]
    table = np.array([number(name or None) for name in names], dtype=dtype)
    places = encoded.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    found: npt.NDArray[Any] = table[places]
    return found


def _texts(found: SourceFiles, file: SourceFile, column: str) -> Iterator[Any]:
    """Read one column of a file as text, batch by batch."""
    place = found.place(file)
    with (
        refusing_damage(place, f"column {column!r} cannot be read"),
        open_parquet(place, file.listed) as opened,
    ):
        for batch in opened.iter_batches(ROWS_PER_SCAN, columns=[column], use_threads=False):
            values = batch.column(0)
            if pa.types.is_dictionary(values.type):
                values = pc.cast(values, values.type.value_type)
            yield pc.cast(values, pa.large_string())


def _reader(
    source: ParquetSource,
    found: SourceFiles,
    kind: Any,  # noqa: ANN401  pyarrow has no types
    *,
    rows: list[int],
    where: str,
) -> Reader:
    if is_text_type(kind):
        paths = [
            text or None
            for file in found.files
            for texts in _texts(found, file, source.image)
            for text in texts.to_pylist()
        ]
        return confined_files(found.root, paths, where=where)
    parts = tuple(
        ParquetPart(file=file.path, start=0, stop=count, listed=file.listed)
        for file, count in zip(found.files, rows, strict=True)
    )
    return ParquetRows(
        root=found.root, parts=parts, column=source.image, in_struct=pa.types.is_struct(kind)
    )
