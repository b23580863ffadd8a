"""What predicting writes: parquet parts, a request that fixes what they are of, a manifest last.

DIR/
    part-00000.parquet ...   the rows of one chunk each, complete or absent
    _request.json            what was asked for; the same request goes on, another is refused
    _manifest.json           once every part is there

Names that begin with `_` or `.` are passed over by what reads a folder of parquet files as one
table, so the folder can be given to pandas, Arrow, Spark or Ray Data as it is.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from os import getpid
from platform import node
from typing import Any, final

import pyarrow as pa
import pyarrow.parquet as pq

from rayft.data.parquet_files import open_parquet
from rayft.data.remote import in_parallel
from rayft.errors import DataError, Problem
from rayft.storage.location import Location
from rayft.storage.lock import locked

REQUEST, MANIFEST = "_request.json", "_manifest.json"
_LOCK = ".lock"
_MOST_EXAMPLES = 3
_META = "rayft."
"""Start of the keys in a part's metadata."""

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """A part that is there."""

    index: int
    num_rows: int
    num_errors: int
    examples: tuple[str, ...] = ()
    """A few of the reasons why images cannot be read."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The folder that parts are written to."""

    folder: Location
    request: Mapping[str, Json]
    """All that decides what the parts hold."""

    @property
    def key(self) -> str:
        """Hash of the request."""
        return sha256(json.dumps(self.request, sort_keys=True).encode()).hexdigest()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second command out of the folder.

        Raises:
            DataError: another one writes there, or the folder cannot be written.
        """
        try:
            with locked(self.folder / _LOCK, holder=f"process {getpid()} on {node()}", wait=False):
                yield
        except BlockingIOError as error:
            what = f"it is being written by {error.strerror}"
            fix = "wait for it or stop it, or choose another folder"
            raise DataError(Problem(str(self.folder), what, fix)) from error

    def check(self) -> None:
        """Check that what lies in the folder is of this request.

        Raises:
            DataError: it is of another request, with what differs, or of something else.
        """
        asked = _read_json(self.folder / REQUEST)
        if asked is None:
            if strangers := [name for name in self.folder.children() if name[0] not in "._"]:
                what = f"the folder holds other files: {', '.join(strangers[:5])}"
                raise DataError(Problem(str(self.folder), what, "choose an empty or a new folder"))
            return
        if found := list(_differences(asked, self.request)):
            rows = "".join(f"\n    {line}" for line in found)
            raise DataError(
                Problem(
                    str(self.folder),
                    f"it holds predictions of another request (begun with -> asked for):{rows}",
                    "choose another folder, or ask for what it was begun with",
                )
            )

    def begin(self) -> None:
        """Note the request, and delete what interrupted writers left behind."""
        if not (self.folder / REQUEST).exists():
            text = json.dumps(self.request, indent=1)
            (self.folder / REQUEST).write_bytes(text.encode())
        for name in self.folder.children():
            if name.startswith(".part-"):
                (self.folder / name).delete()

    def finished(self, sizes: Sequence[int]) -> list[PartReport]:
        """Return the parts that are there and whole.

        Args:
            sizes: rows of every part.
        """
        names = set(self.folder.children())
        there = [index for index in range(len(sizes)) if part_name(index) in names]
        threads = 1 if self.folder.is_local else None
        found = in_parallel(self._look_at, there, threads=threads)
        return [part for part in found if part and part.num_rows == sizes[part.index]]

    def _look_at(self, index: int) -> PartReport | None:
        place = self.folder / part_name(index)
        # A part that was damaged or put there by something else is made again.
        with suppress(OSError, pa.ArrowException, KeyError, ValueError):
            listed = None if place.is_local else place.stat()
            with open_parquet(place, listed) as file:
                meta = file.schema_arrow.metadata or {}
                if meta[f"{_META}request".encode()].decode() == self.key:
                    errors = int(meta[f"{_META}errors".encode()])
                    rows = file.metadata.num_rows
                    return PartReport(index=index, num_rows=rows, num_errors=errors)
        return None

    def write(self, index: int, tables: Sequence[Any], classes: Sequence[str]) -> PartReport:
        """Write a part; its bytes follow from its rows alone.

        Args:
            index: the part's number.
            tables: its rows, in order; the last column says why an image cannot be read.
            classes: label names, for the metadata.

        Raises:
            DataError: it cannot be written.
        """
        table = pa.concat_tables(tables).combine_chunks().unify_dictionaries()
        num_errors = table.num_rows - table.column(table.num_columns - 1).null_count
        meta = {
            "classes": json.dumps(list(classes)),
            "checkpoint": str(self.request["checkpoint"]),
            "request": self.key,
            "errors": str(num_errors),
        }
        table = table.replace_schema_metadata({_META + name: text for name, text in meta.items()})
        file = io.BytesIO()
        pq.write_table(table, file)
        try:
            (self.folder / part_name(index)).write_bytes(file.getbuffer())
        except OSError as error:
            what = f"a part cannot be written: {error.strerror or error}"
            fix = "free space there or change the permission; the same command goes on"
            raise DataError(Problem(str(self.folder), what, fix)) from error
        return PartReport(
            index=index,
            num_rows=table.num_rows,
            num_errors=num_errors,
            examples=_examples(table),
        )

    def manifest(self) -> dict[str, Json] | None:
        """Return the manifest; None before everything was written."""
        return _read_json(self.folder / MANIFEST)

    def write_manifest(self, manifest: Mapping[str, Json]) -> None:
        """Write the manifest: from now on the predictions are whole."""
        (self.folder / MANIFEST).write_bytes(json.dumps(manifest, indent=1).encode())


def _examples(table: Any) -> tuple[str, ...]:  # noqa: ANN401  pyarrow has no types
    """Return a few of the reasons, each with the row's first value, which often is its name."""
    bad = table.filter(table.column(table.num_columns - 1).is_valid())[:_MOST_EXAMPLES]
    names = bad.column(0).to_pylist()
    reasons = bad.column(table.num_columns - 1).to_pylist()
    return tuple(
        reason if name is None else f"{str(name)[:200]}: {reason}"
        for name, reason in zip(names, reasons, strict=True)
    )


def part_name(index: int) -> str:
    """Return the name of a part; sorted by name, parts are in the order of the input."""
    return f"part-{index:05d}.parquet"


def _read_json(place: Location) -> dict[str, Json] | None:
    try:
        found = json.loads(place.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"it cannot be read: {error.strerror or error}"
        raise DataError(Problem(str(place), what, "check the path and its permissions")) from error
    except ValueError as error:
        raise DataError(Problem(str(place), "it is damaged", "choose another folder")) from error
    return dict(found)


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401  any JSON
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(name), new.get(name), f"{path}.{name}".strip("."))
    elif old != new:
        yield f"{path}: {old!r} -> {new!r}"
