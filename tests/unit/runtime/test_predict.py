"""Whole predictions in this process: what comes out, how it goes on, and what is refused."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rayft
from rayft.data.predict_parts import MANIFEST, REQUEST, part_name
from rayft.errors import CheckpointError, DataError, RayftError, SpecError
from rayft.runtime import predict_scale
from rayft.runtime.predict import predict
from rayft.runtime.predict_job import PredictOptions
from rayft.runtime.predict_worker import Worker
from rayft.storage.location import Location
from tests.unit.conftest import make_image_file
from tests.unit.runtime.predicting import (
    CLASSES,
    contents,
    make_checkpoint,
    make_photos,
    predictions,
    probabilities,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Location:
    return make_checkpoint(Location(str(tmp_path_factory.mktemp("run"))))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make parts of eight rows, so that a few pictures give several."""
    monkeypatch.setattr(predict_scale, "_PART_ROWS", (8, 8))


def options(**changes: Any) -> PredictOptions:
    return PredictOptions(**{"workers": 0, "batch_size": 4} | changes)


class Heard:
    """Remembers what a listener is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.rows: list[tuple[int, int]] = []

    def on_stage(self, text: str) -> None:
        self.stages.append(text)

    def on_rows(self, done: int, total: int) -> None:
        self.rows.append((done, total))


@pytest.mark.usefixtures("small_parts")
def test_a_folder_becomes_parts_and_a_manifest(run: Location, tmp_path: Path) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 21, bad=(3, 20))
    heard = Heard()

    found = rayft.predict(run.url, photos.url, tmp_path / "out", options=options(), listener=heard)

    rows = predictions(tmp_path / "out")
    assert [row["path"] for row in rows] == [f"{photos}/{n:04d}.png" for n in range(21)]
    assert [n for n, row in enumerate(rows) if row["error"]] == [3, 20]
    assert all((row["label"] is None) == (row["error"] is not None) for row in rows)
    assert {row["label"] for row in rows} - {None} <= set(CLASSES)
    for row in rows:
        if row["label"]:
            assert row["probability"] == max(row["probabilities"])
            assert row["label"] == CLASSES[int(np.argmax(row["probabilities"]))]
            assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-6)
    assert (found["status"], found["rows"], found["errors"]) == ("predicted", 21, 2)
    assert found["rows_predicted"] == 21
    assert found["examples"][0].startswith(f"{photos}/0003.png: it is no image")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert [file["rows"] for file in manifest["files"]] == [8, 8, 5]
    assert [file["errors"] for file in manifest["files"]] == [1, 0, 1]
    assert manifest["classes"] == list(CLASSES)
    assert heard.rows[-1] == (21, 21)
    assert [done for done, _ in heard.rows] == sorted(done for done, _ in heard.rows)


def as_csv(photos: Location, names: list[str]) -> Location:
    lines = ["number,image", *(f"{n},photos/{name}" for n, name in enumerate(names))]
    (photos.parent / "table.csv").write_bytes("\n".join(lines).encode())
    return photos.parent / "table.csv"


def as_parquet(photos: Location, names: list[str]) -> Location:
    images = [(photos / name).read_bytes() for name in names]
    file = io.BytesIO()
    pq.write_table(pa.table({"number": range(len(names)), "image": images}), file)
    (photos.parent / "table.parquet").write_bytes(file.getvalue())
    return photos.parent / "table.parquet"


@pytest.mark.usefixtures("small_parts")
def test_every_kind_of_input_gives_the_same_bits_here_and_in_an_object_store(
    place: Location, tmp_path: Path
) -> None:
    run = make_checkpoint(place / "run")
    photos = make_photos(place / "photos", 11, bad=(2,))
    names = photos.children()
    inputs = [photos, as_csv(photos, names), as_parquet(photos, names)]

    found = []
    for number, rows in enumerate(inputs):
        out = place / f"out{number}"
        predict(run.url, rows.url, out.url, options=options())
        copy = tmp_path / f"copy{number}"
        copy.mkdir()
        for name in out.children():
            if name.endswith(".parquet"):
                (copy / name).write_bytes((out / name).read_bytes())
        found.append([row["probabilities"] for row in predictions(copy)])

    assert len(found[0]) == 11
    assert found[0] == found[1] == found[2]
    assert [n for n, row in enumerate(found[0]) if row is None] == [2]


@pytest.mark.usefixtures("small_parts")
def test_neither_lanes_nor_their_pace_change_a_bit(
    run: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 21)
    for lanes in (1, 2, 5):
        monkeypatch.setattr(predict_scale, "available_cpus", lambda lanes=lanes: lanes)
        predict(run.url, photos.url, tmp_path / f"out{lanes}", options=options())

    assert contents(tmp_path / "out1") == contents(tmp_path / "out2") == contents(tmp_path / "out5")
    assert len(contents(tmp_path / "out1")) == 3


@pytest.mark.usefixtures("small_parts")
def test_going_on_makes_the_missing_parts_alone(
    run: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 30, bad=(1, 9))
    out = tmp_path / "out"
    predict(run.url, photos.url, out, options=options())
    whole, manifest = contents(out), json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).unlink()
    (out / part_name(1)).unlink()
    (out / part_name(3)).write_bytes(whole[part_name(3)][:50])
    made = []
    call = Worker.__call__
    monkeypatch.setattr(
        Worker,
        "__call__",
        lambda self, index, chunk: (made.append(index), call(self, index, chunk))[1],
    )
    heard = Heard()

    found = predict(run.url, photos.url, out, options=options(), listener=heard)

    assert sorted(made) == [1, 3]
    assert contents(out) == whole
    again = json.loads((out / MANIFEST).read_text())
    assert {**again, "examples": 0} == {**manifest, "examples": 0}
    assert (found["errors"], found["rows_predicted"]) == (2, 14)
    assert "16 of 30 rows are there" in heard.stages[-1]
    assert heard.rows[0] == (20, 30)


def test_a_finished_folder_says_so_at_once(
    run: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 5)
    predict(run.url, photos.url, tmp_path / "out", options=options())
    before = contents(tmp_path / "out")
    monkeypatch.setattr(Worker, "__init__", lambda *args, **kwargs: pytest.fail("it predicts"))

    found = predict(run.url, photos.url, tmp_path / "out", options=options())

    assert (found["status"], found["rows"]) == ("already finished", 5)
    assert contents(tmp_path / "out") == before


def test_another_checkpoint_input_or_option_is_refused_with_what_differs(
    run: Location, tmp_path: Path
) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 5)
    out = tmp_path / "out"
    predict(run.url, photos.url, out, options=options())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other_run = make_checkpoint(Location(str(tmp_path / "other")), seed=5)

    def refusal(checkpoint: Location, **changes: Any) -> str:
        with pytest.raises(DataError) as caught:
            predict(checkpoint.url, photos.url, out, options=options(**changes))
        return str(caught.value)

    assert "checkpoint: '" in refusal(other_run)
    assert "columns.top: None -> 2" in refusal(run, top=2)
    assert "columns.prefix: '' -> 'p_'" in refusal(run, prefix="p_")
    assert "batch_size: 4 -> 8" in refusal(run, batch_size=8)
    make_photos(photos, 6)
    assert "input.rows: 5 -> 6" in refusal(run)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_copy_of_the_run_is_the_same_checkpoint(run: Location, tmp_path: Path) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 3)
    predict(run.url, photos.url, tmp_path / "out", options=options())
    copy = make_checkpoint(Location(str(tmp_path / "copy")))

    found = predict(f"{copy}/checkpoints/step-1", photos.url, tmp_path / "out", options=options())

    assert found["status"] == "already finished"


def test_the_batch_follows_from_the_input_and_changes_no_more_than_rounding(
    run: Location, tmp_path: Path
) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 9)

    predict(run.url, photos.url, tmp_path / "a", options=options(batch_size="auto"))
    predict(run.url, photos.url, tmp_path / "b", options=options(batch_size=1))

    request = json.loads((tmp_path / "a" / REQUEST).read_text())
    assert (request["batch_size"], request["rows_per_part"]) == (16, 256)
    np.testing.assert_allclose(
        probabilities(tmp_path / "a"), probabilities(tmp_path / "b"), atol=1e-5
    )


def test_where_not_one_image_can_be_read_it_fails(run: Location, tmp_path: Path) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 3, bad=(0, 1, 2))

    for _ in range(2):
        with pytest.raises(RayftError, match="not one of 3 images can be read") as caught:
            predict(run.url, photos.url, tmp_path / "out", options=options())

        assert caught.value.exit_code == 1
        assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_table_that_changes_meanwhile_is_not_called_finished(
    run: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 6)
    table = as_parquet(photos, photos.children())
    call = Worker.__call__

    def change(self: Worker, index: int, chunk: Any) -> Any:
        report = call(self, index, chunk)
        as_parquet(photos, photos.children())
        return report

    monkeypatch.setattr(Worker, "__call__", change)

    with pytest.raises(RayftError, match="changed while they were being read"):
        predict(run.url, table.url, tmp_path / "out", options=options())

    assert not (tmp_path / "out" / MANIFEST).exists()


@pytest.mark.parametrize("wrong", [{"top": 0}, {"workers": -1}, {"batch_size": 0}])
def test_numbers_that_cannot_be_meant_are_refused(
    run: Location, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(SpecError, match="or more, found"):
        predict(run.url, tmp_path, tmp_path / "out", options=options(**wrong))


def test_what_is_refused_writes_nothing(run: Location, tmp_path: Path) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 3)
    (tmp_path / "labelled.csv").write_text("image,label\nphotos/0000.png,ant\n")
    out = tmp_path / "out"

    with pytest.raises(CheckpointError):
        predict(photos.url, photos.url, out, options=options())
    with pytest.raises(DataError, match="no such file or folder"):
        predict(run.url, tmp_path / "fotos", out, options=options())
    with pytest.raises(DataError, match="columns that predicting adds: 'label'"):
        predict(run.url, tmp_path / "labelled.csv", out, options=options())
    with pytest.raises(DataError, match="knows 3 classes"):
        predict(run.url, photos.url, out, options=options(top=4))
    with pytest.raises(SpecError, match="ftp://"):
        predict(run.url, photos.url, "ftp://host/out", options=options())
    assert not out.exists()

    predict(run.url, tmp_path / "labelled.csv", out, options=options(prefix="predicted_"))
    (row,) = predictions(out)
    assert row["label"] == "ant"
    assert row["predicted_label"] in CLASSES


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run = make_checkpoint(Location(str(tmp_path / "run")))
    photos = make_photos(Location(str(tmp_path / "photos")), 3)
    weights = tmp_path / "run" / "checkpoints" / "step-1" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))

    with pytest.raises(CheckpointError, match="does not match its hash"):
        predict(run.url, photos.url, tmp_path / "out", options=options())


def test_the_number_of_threads_of_the_caller_is_left_alone(run: Location, tmp_path: Path) -> None:
    import torch

    (tmp_path / "cat.png").write_bytes(make_image_file(0))
    before = torch.get_num_threads()

    predict(run.url, tmp_path / "cat.png", tmp_path / "out", options=options())

    assert torch.get_num_threads() == before


def test_a_table_that_cannot_be_read_on_fails_and_says_why(run: Location, tmp_path: Path) -> None:
    photos = make_photos(Location(str(tmp_path / "photos")), 6)
    table = as_parquet(photos, photos.children())
    content = bytearray(table.read_bytes())
    content[40:4000] = b"\xff" * 3960
    table.write_bytes(bytes(content))

    with pytest.raises(RayftError, match="it cannot be read") as caught:
        predict(run.url, table.url, tmp_path / "out", options=options())

    assert caught.value.exit_code == 1
    assert not (tmp_path / "out" / MANIFEST).exists()
