"""Parts: what their columns hold, when one counts as there, and what is refused."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayft.data.predict_format import PartFormat
from rayft.data.predict_parts import MANIFEST, REQUEST, Parts, part_name
from rayft.errors import DataError
from rayft.storage.location import Location

CLASSES = ("ant", "bee", "cat")
PROBABILITIES = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [1 / 3, 1 / 3, 1 / 3], [0.1, 0.2, 0.7]])
ERRORS = [None, None, "it is gone", None]
CARRIED = pa.table({"id": [7, 8, 9, 10]})


def columns(**changes: Any) -> PartFormat:
    return PartFormat(
        **{"classes": CLASSES, "carried": CARRIED.schema, "top": None, "prefix": ""} | changes
    )


def request(**changes: Any) -> dict[str, Any]:
    return {"checkpoint": "c" * 64, "input": {"rows": 4}, "batch_size": 2} | changes


def rows_of(table: Any) -> list[dict[str, Any]]:
    return table.to_pylist()


def test_rows_have_label_probability_and_all_probabilities_or_a_reason() -> None:
    table = columns().table(CARRIED, PROBABILITIES, ERRORS)

    first, tied, bad, last = rows_of(table)
    assert first == {
        "id": 7,
        "label": "bee",
        "probability": pytest.approx(0.5),
        "probabilities": pytest.approx([0.2, 0.5, 0.3]),
        "error": None,
    }
    assert tied["label"] == "ant"
    assert tied["probabilities"] == pytest.approx([0.4, 0.2, 0.4])
    assert bad == {
        "id": 9,
        "label": None,
        "probability": None,
        "probabilities": None,
        "error": "it is gone",
    }
    assert last["label"] == "cat"
    assert last["probabilities"] == pytest.approx([0.1, 0.2, 0.7])
    assert table.schema.field("probabilities").type == pa.list_(pa.float32())
    assert table.schema.field("probability").type == pa.float32()


def test_top_lists_the_best_classes_first() -> None:
    first, tied, bad, last = rows_of(columns(top=2).table(CARRIED, PROBABILITIES, ERRORS))

    assert "probabilities" not in first
    assert first["top_labels"] == ["bee", "cat"]
    assert first["top_probabilities"] == pytest.approx([0.5, 0.3])
    assert tied["top_labels"] == ["ant", "cat"]
    assert bad["top_labels"] is None
    assert bad["top_probabilities"] is None
    assert last["top_labels"] == ["cat", "bee"]


def test_a_prefix_goes_before_the_added_columns_alone() -> None:
    table = columns(prefix="p_").table(CARRIED, PROBABILITIES, ERRORS)

    assert table.schema.names == ["id", "p_label", "p_probability", "p_probabilities", "p_error"]


def test_a_column_of_the_input_with_an_added_name_is_refused() -> None:
    carried = pa.schema([("label", pa.int64()), ("error", pa.string()), ("id", pa.int64())])

    with pytest.raises(DataError, match="'label', 'error'") as caught:
        columns(carried=carried).check()

    assert "--prefix predicted_" in caught.value.problems[0].fix
    columns(carried=carried, prefix="predicted_").check()
    columns(carried=pa.schema([("probabilities", pa.int64())]), top=1).check()


def test_more_classes_than_there_are_cannot_be_listed() -> None:
    columns(top=3).check()

    with pytest.raises(DataError, match="knows 3 classes"):
        columns(top=4).check()


def write(parts: Parts, index: int) -> None:
    half = slice(2 * index, 2 * index + 2)
    tables = [columns().table(CARRIED[half], PROBABILITIES[half], ERRORS[half])]
    report = parts.write(index, tables, CLASSES)
    assert report.num_rows == 2
    assert report.num_errors == index
    assert list(report.examples) == ["9: it is gone"] * index


def test_what_is_written_is_found_again(place: Location) -> None:
    parts = Parts(folder=place / "out", request=request())
    parts.begin()
    write(parts, 1)

    assert [(p.index, p.num_rows, p.num_errors) for p in parts.finished([2, 2])] == [(1, 2, 1)]
    write(parts, 0)
    assert [p.index for p in parts.finished([2, 2])] == [0, 1]
    assert parts.finished([2, 3]) == parts.finished([2])
    assert json.loads((place / "out" / REQUEST).read_bytes()) == request()


def test_the_folder_is_one_table_for_others(tmp_path: Path) -> None:
    parts = Parts(folder=Location(str(tmp_path)), request=request())
    parts.begin()
    with parts.locked():
        write(parts, 0)
        write(parts, 1)
        parts.write_manifest({"rows": 4})

    for read in (pq.read_table(tmp_path).to_pandas(), pd.read_parquet(tmp_path)):
        assert list(read["id"]) == [7, 8, 9, 10]
        assert list(read["label"])[:2] == ["bee", "ant"]
    meta = pq.read_schema(tmp_path / part_name(0)).metadata
    assert json.loads(meta[b"rayft.classes"]) == list(CLASSES)
    assert meta[b"rayft.checkpoint"] == b"c" * 64


def test_the_bytes_of_a_part_follow_from_its_rows_however_they_came(tmp_path: Path) -> None:
    written = []
    for name, cuts in (("a", [0, 4]), ("b", [0, 1, 3, 4])):
        parts = Parts(folder=Location(str(tmp_path / name)), request=request())
        tables = [
            columns().table(CARRIED[a:b], PROBABILITIES[a:b], ERRORS[a:b])
            for a, b in pairwise(cuts)
        ]
        parts.write(0, tables, CLASSES)
        written.append((tmp_path / name / part_name(0)).read_bytes())

    assert written[0] == written[1]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other request"])
def test_a_part_that_is_not_whole_or_not_ours_is_not_there(place: Location, damage: str) -> None:
    parts = Parts(folder=place, request=request())
    write(parts, 0)
    write(parts, 1)
    file = place / part_name(1)
    content = file.read_bytes()

    if damage == "other request":
        write(Parts(folder=place, request=request(batch_size=4)), 1)
    else:
        file.write_bytes({"cut": content[:-9], "empty": b"", "text": b"PAR1" * 9}[damage])

    assert [part.index for part in parts.finished([2, 2])] == [0]


def test_another_request_is_refused_with_what_differs(place: Location) -> None:
    Parts(folder=place, request=request()).begin()
    Parts(folder=place, request=request()).check()
    other = request(checkpoint="d" * 64, input={"rows": 5})

    with pytest.raises(DataError) as caught:
        Parts(folder=place, request=other).check()

    assert "checkpoint: 'ccc" in str(caught.value)
    assert "input.rows: 4 -> 5" in str(caught.value)
    assert "batch_size" not in str(caught.value)


def test_a_folder_of_something_else_is_refused(place: Location) -> None:
    (place / "notes.txt").write_bytes(b"mine")
    parts = Parts(folder=place, request=request())

    with pytest.raises(DataError, match=r"holds other files: notes\.txt"):
        parts.check()
    (place / "notes.txt").delete()
    (place / ".DS_Store").write_bytes(b"")
    parts.check()


def test_a_damaged_note_of_the_request_is_refused(tmp_path: Path) -> None:
    (tmp_path / REQUEST).write_text("{")

    with pytest.raises(DataError, match="damaged"):
        Parts(folder=Location(str(tmp_path)), request=request()).check()


def test_what_an_interrupted_writer_left_is_deleted(tmp_path: Path) -> None:
    (tmp_path / f".{part_name(3)}.0123").write_bytes(b"half")
    parts = Parts(folder=Location(str(tmp_path)), request=request())

    parts.begin()

    assert [path.name for path in tmp_path.iterdir()] == [REQUEST]
    assert parts.manifest() is None
    parts.write_manifest({"rows": 4})
    assert parts.manifest() == {"rows": 4}
    assert (tmp_path / MANIFEST).is_file()


def test_a_second_command_is_kept_out(tmp_path: Path) -> None:
    parts = Parts(folder=Location(str(tmp_path)), request=request())

    with parts.locked(), pytest.raises(DataError, match="being written by process"), parts.locked():
        pass


def test_a_part_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    parts = Parts(folder=Location(str(tmp_path / "file")), request=request())

    with pytest.raises(DataError, match="a part cannot be written"):
        write(parts, 0)
