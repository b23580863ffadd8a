"""Sources of kind `parquet`: images and labels in columns of parquet files.

Files are read by pyarrow itself and by column, so extension types that would run code on
reading never come into play.
"""

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayft.data.csv_source import confined_files
from rayft.data.labels import code_labels
from rayft.data.listing import Listing, hash_groups, make_listing, missing_column, resolve_path
from rayft.data.readers import ParquetPart, ParquetRows, Reader, printable
from rayft.errors import DataError, Problem
from rayft.spec.data import ParquetSource


def list_parquet(source: ParquetSource, *, base_dir: Path) -> Listing:
    """List the rows of parquet files, in the order of the files' names.

    Raises:
        DataError: files or columns are missing or of the wrong type, or labels are missing.
    """
    where = printable(str(resolve_path(source.path, base_dir=base_dir, where=source.path)))
    files = parquet_files(source.path, base_dir=base_dir)
    schemas = [read_schema(path) for path in files]
    problems = [
        problem
        for path, schema in zip(files, schemas, strict=True)
        for problem in _schema_problems(source, schema, where=printable(str(path)))
    ]
    if problems:
        raise DataError(*problems[:10])
    labels = _texts(files, source.label)
    groups = None if source.group is None else hash_groups(_texts(files, source.group))
    reader = _reader(source, files, schemas[0].field(source.image).type, where=where)
    return make_listing(where=where, labels=code_labels(labels), groups=groups, reader=reader)


def parquet_files(path: str, *, base_dir: Path) -> list[Path]:
    """Return the files that a source's `path` means, in the order of their names.

    Raises:
        DataError: there is none.
    """
    full = resolve_path(path, base_dir=base_dir, where=path)
    if full.is_file():
        return [full]
    if full.is_dir():
        found = [file for file in full.glob("*.parquet") if not file.name.startswith(".")]
    else:
        # Relative to a root, so that brackets in `base_dir` are not taken for a pattern.
        names = glob(str(Path(path).expanduser()), root_dir=base_dir)  # noqa: PTH207  as said
        found = [(base_dir / name).absolute() for name in names]
    found = sorted(file for file in found if file.is_file())
    if not found:
        what = "no parquet file is there; expected a file, a folder or a glob pattern"
        raise DataError(Problem(printable(str(full)), what, "check the source's `path`"))
    return found


def read_schema(path: Path) -> Any:  # noqa: ANN401  pyarrow has no types
    """Return the columns of a parquet file.

    Raises:
        DataError: it is no parquet file.
    """
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        fix = "write the file again, or take it out of the source"
        what = f"it is no parquet file: {error}"
        raise DataError(Problem(printable(str(path)), what, fix)) from error


def is_image_type(kind: Any) -> bool:  # noqa: ANN401  pyarrow has no types
    """Tell whether a column of this type can hold encoded images."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def is_label_type(kind: Any) -> bool:  # noqa: ANN401  pyarrow has no types
    """Tell whether a column of this type can hold labels or groups."""
    if pa.types.is_dictionary(kind):
        return is_label_type(kind.value_type)
    return is_text_type(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def is_text_type(kind: Any) -> bool:  # noqa: ANN401  pyarrow has no types
    """Tell whether a column of this type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: Any) -> bool:  # noqa: ANN401  pyarrow has no types
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


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


def _texts(files: Sequence[Path], column: str) -> list[str | None]:
    """Read one column of all files as text; an empty text counts as missing."""
    texts: list[str | None] = []
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                values = file.read([column]).column(column)
        except (OSError, pa.ArrowException) as error:
            fix = "write the file again, or take it out of the source"
            what = f"column {column!r} cannot be read: {error}"
            raise DataError(Problem(printable(str(path)), what, fix)) from error
        if pa.types.is_dictionary(values.type):
            values = pc.cast(values, values.type.value_type)
        texts.extend(text or None for text in pc.cast(values, pa.large_string()).to_pylist())
    return texts


def _reader(source: ParquetSource, files: Sequence[Path], kind: Any, *, where: str) -> Reader:  # noqa: ANN401
    root = Path(os.path.commonpath([path.parent for path in files]))
    if is_text_type(kind):
        return confined_files(root, _texts(files, source.image), where=where)
    parts = tuple(
        ParquetPart(file=str(path.relative_to(root)), start=0, stop=pq.read_metadata(path).num_rows)
        for path in files
    )
    return ParquetRows(
        root=str(root), parts=parts, column=source.image, in_struct=pa.types.is_struct(kind)
    )
