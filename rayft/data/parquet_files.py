"""Opening parquet files, here or in an object store, and what their columns may hold.

Files are read by pyarrow itself and by column, so extension types that would run code on
reading never come into play.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayft.data.raw import printable
from rayft.data.remote import read_problem
from rayft.errors import DataError, Problem
from rayft.storage.location import Changed, FileState, Location, StorageFault
from rayft.storage.object_file import ObjectFile
from rayft.storage.ranges import StreamedFile

_BY_PIECES = {"buffer_size": 2**22, "pre_buffer": False}
"""Fetch a column in pieces of 4 MiB: pyarrow alone fetches all that it may need at once."""
_MEND = "write the file again, or take it out of the source"


@contextmanager
def open_parquet(
    place: Location, listed: FileState | None, *, stream: bool = False
) -> Iterator[pq.ParquetFile]:
    """Open a parquet file.

    Args:
        place: the file.
        listed: size and version of an object; None for a file on this machine.
        stream: most of it will be read, in order, and not parts here and there.

    Raises:
        OSError: it cannot be opened, or the object is another than the one listed.
        pyarrow.ArrowException: it is no parquet file.
    """
    if listed is None:
        with pq.ParquetFile(place.path, **_BY_PIECES) as file:
            yield file
        return
    kind = StreamedFile if stream else ObjectFile
    with (
        kind(place.bucket, place.key, listed) as source,
        pq.ParquetFile(source, **_BY_PIECES) as file,
    ):
        yield file


@contextmanager
def refusing_damage(place: Location, what: str) -> Iterator[None]:
    """Turn failures to read a parquet file within the block into a `DataError`.

    Args:
        place: the file.
        what: what is then said of it, before the reason: `it is no parquet file`.

    Raises:
        DataError: the file is damaged, gone, or another than the one listed.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        if not place.is_local and isinstance(error, Changed | FileNotFoundError | StorageFault):
            raise DataError(read_problem(place, error)) from error
        raise DataError(Problem(printable(str(place)), f"{what}: {error}", _MEND)) from error


def read_schema(place: Location, listed: FileState | None = None) -> Any:  # noqa: ANN401  untyped
    """Return the columns of a parquet file.

    Raises:
        DataError: it is no parquet file.
    """
    return read_footer(place, listed)[0]


def read_footer(place: Location, listed: FileState | None) -> tuple[Any, int]:
    """Return the columns of a parquet file, and how many rows it has.

    Raises:
        DataError: it is no parquet file.
    """
    with refusing_damage(place, "it is no parquet file"), open_parquet(place, listed) as file:
        return file.schema_arrow, file.metadata.num_rows


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
