"""Parquet files to predict: their footers, and how their rows are cut into chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, Literal, final

import pyarrow as pa

from rayft.data.parquet_files import is_image_type, is_text_type, open_parquet, refusing_damage
from rayft.data.parquet_rows import ParquetPart
from rayft.data.predict_columns import Wanted, choose_carried, find_image
from rayft.data.predict_parquet import ImageKind, ParquetChunk, ParquetColumns
from rayft.data.raw import printable
from rayft.data.remote import in_parallel
from rayft.data.source_files import SourceFile, SourceFiles
from rayft.errors import DataError, Problem
from rayft.storage.location import Location

_MOST_PIECES = 8
"""Pieces of a row group, within reason: a piece reads past all rows of the group before it."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetInput:
    """All rows of the parquet files that were named."""

    where: str
    files: SourceFiles
    group_rows: tuple[tuple[int, ...], ...]
    """Rows of each row group of each file."""
    columns: ParquetColumns
    version: str
    """Hash of the names, sizes and versions of all files."""

    @property
    def num_rows(self) -> int:
        """Rows of all files."""
        return sum(map(sum, self.group_rows))

    @property
    def carried(self) -> Any:  # noqa: ANN401  pyarrow has no types
        """Schema of the columns that go through to the output."""
        return self.columns.carried

    def is_as_listed(self) -> bool:
        """Return whether the files are still those that were listed.

        Objects are: they are read as the version that was listed or not at all.
        """
        return not self.files.root.is_local or _version(self.files) == self.version

    def chunks(self, rows: int) -> list[ParquetChunk]:
        """Cut the rows into chunks of about `rows`, at the borders of row groups where possible.

        A row group cannot be entered in its middle, so a chunk that ends in one makes the next
        chunk read it again.
        """
        chunks: list[list[ParquetPart]] = [[]]
        held = 0
        for part in self._pieces(rows):
            if held and held + (part.stop - part.start) > rows:
                chunks.append([])
                held = 0
            chunks[-1].append(part)
            held += part.stop - part.start
        return [
            ParquetChunk(root=self.files.root, parts=tuple(_joined(parts)), columns=self.columns)
            for parts in chunks
        ]

    def _pieces(self, rows: int) -> Iterator[ParquetPart]:
        for file, groups in zip(self.files.files, self.group_rows, strict=True):
            start = 0
            for count in groups:
                num_pieces = min(-(-count // rows), _MOST_PIECES)
                for piece in range(num_pieces):
                    yield ParquetPart(
                        file=file.path,
                        start=start + count * piece // num_pieces,
                        stop=start + count * (piece + 1) // num_pieces,
                        listed=file.listed,
                    )
                start += count


def list_parquet_to_predict(
    files: SourceFiles, *, wanted: Wanted, named_root: Location | None, where: str
) -> ParquetInput:
    """List rows of parquet files, in the order of the files; reads their footers.

    Args:
        files: the files.
        wanted: what the user asks of the columns.
        named_root: the folder that paths in the image column are relative to; None: the files' own.
        where: the input, as messages name it.

    Raises:
        DataError: a file is damaged, a column is missing, or files differ in their columns.
    """
    threads = 1 if files.root.is_local else None
    footers = in_parallel(partial(_footer, files), files.files, threads=threads)
    schemas = [schema for schema, _ in footers]
    columns = _choose(schemas[0], wanted, files, named_root)
    needed = (*columns.carried.names, columns.image)
    problems = [
        problem
        for file, schema in zip(files.files, schemas, strict=True)
        for problem in _differences(files, file, schemas[0], schema, needed)
    ]
    if problems:
        raise DataError(*problems[:10])
    return ParquetInput(
        where=where,
        files=files,
        group_rows=tuple(rows for _, rows in footers),
        columns=columns,
        version=_version(files),
    )


def _footer(files: SourceFiles, file: SourceFile) -> tuple[Any, tuple[int, ...]]:
    place = files.place(file)
    with refusing_damage(place, "it is no parquet file"), open_parquet(place, file.listed) as found:
        groups = range(found.metadata.num_row_groups)
        rows = tuple(found.metadata.row_group(group).num_rows for group in groups)
        return found.schema_arrow, rows


def _choose(
    schema: Any,  # noqa: ANN401  pyarrow has no types
    wanted: Wanted,
    files: SourceFiles,
    named_root: Location | None,
) -> ParquetColumns:
    where = printable(str(files.place(files.files[0])))
    kinds = {field.name: _kind(field.type) for field in schema}
    image = find_image(wanted, kinds, where=where)
    if named_root is not None and kinds[image] != "text":
        what = f"--root has no effect: column {image!r} holds the images themselves"
        raise DataError(Problem("--root", what, "remove --root, or set --image"))
    carried = choose_carried(
        wanted, schema.names, is_image=lambda name: kinds[name] == "image", where=where
    )
    image_kind: ImageKind = "path"
    if kinds[image] == "image":
        image_kind = "struct" if pa.types.is_struct(schema.field(image).type) else "bytes"
    return ParquetColumns(
        image=image,
        image_kind=image_kind,
        named_root=named_root or files.root,
        carried=pa.schema([(name, schema.field(name).type) for name in carried]),
    )


def _kind(kind: Any) -> Literal["image", "text", "other"]:  # noqa: ANN401  pyarrow has no types
    if is_image_type(kind):
        return "image"
    return "text" if is_text_type(kind) else "other"


def _differences(
    files: SourceFiles,
    file: SourceFile,
    first: Any,  # noqa: ANN401  pyarrow has no types
    schema: Any,  # noqa: ANN401
    needed: Sequence[str],
) -> Iterator[Problem]:
    where = printable(str(files.place(file)))
    fix = "make all files have the same columns, or leave this one out with --columns"
    for name in needed:
        if name not in schema.names:
            yield Problem(where, f"it has no column {name!r}, which {files.files[0].path} has", fix)
        elif schema.field(name).type != first.field(name).type:
            types = f"{schema.field(name).type}, and {first.field(name).type}"
            what = f"column {name!r} is {types} in {files.files[0].path}"
            yield Problem(where, what, fix)


def _version(files: SourceFiles) -> str:
    digest = sha256()
    for file in files.files:
        place = files.place(file)
        state = file.listed or place.stat()
        line = f"{place.url}\n{state.size} {state.version}\n" if state else f"{place.url}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _joined(parts: Sequence[ParquetPart]) -> Iterator[ParquetPart]:
    """Make one range of neighbours in a file."""
    last: ParquetPart | None = None
    for part in parts:
        if last is not None and (last.file, last.stop) == (part.file, part.start):
            last = replace(last, stop=part.stop)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last
