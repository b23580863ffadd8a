"""A report on a small folder in which every kind of fault was planted."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from rayft.data.prepare import BuiltStores, build_stores
from rayft.data.report import leaks, measure
from rayft.data.report.build import DataReport, make_report
from rayft.data.report.finding import Finding
from rayft.data.report.write import write_report
from rayft.errors import DataError
from rayft.spec.data import BadRowsSpec, DataSpec
from rayft.storage.location import Location
from rayft.store import shards
from rayft.store.dataset import open_dataset
from tests.unit.data.test_report_near import picture

SIZE = 48


def _file(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Make a training and a test folder: 30 bees, 30 cats, 3 dogs, and faults among them."""
    for split, start, classes in (
        ("train", 0, {"bee": 30, "cat": 30, "dog": 3}),
        ("test", 500, {"bee": 8, "cat": 8}),
    ):
        for label, count in classes.items():
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                seed = start + index + 100 * list(classes).index(label)
                (folder / f"{index:02d}.png").write_bytes(_file(picture(seed)))
    train, test = tmp_path / "train", tmp_path / "test"
    (train / "bee" / "cut.jpg").write_bytes(_file(picture(900), "JPEG")[:700])
    (train / "bee" / "is_png.jpg").write_bytes(_file(picture(901)))
    (train / "cat" / "of_bee_03.png").write_bytes((train / "bee" / "03.png").read_bytes())
    (train / "cat" / "of_cat_04.png").write_bytes((train / "cat" / "04.png").read_bytes())
    (test / "bee" / "of_train_bee_05.png").write_bytes((train / "bee" / "05.png").read_bytes())
    small = picture(106).resize((50, 50))
    (test / "cat" / "near_train_cat_06.jpg").write_bytes(_file(small, "JPEG", quality=70))
    near = picture(7).resize((52, 52))
    (train / "cat" / "near_train_bee_07.jpg").write_bytes(_file(near, "JPEG", quality=80))
    (train / "cat" / "blank.png").write_bytes(_file(Image.new("RGB", (64, 64), (90, 120, 91))))
    dark = picture(902).point(lambda level: level // 8)
    (train / "cat" / "dark.png").write_bytes(_file(dark))
    light = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(light).rectangle((20, 30, 28, 40), fill=(200, 30, 60))
    (train / "cat" / "light.png").write_bytes(_file(light))
    blurred = picture(904).filter(ImageFilter.GaussianBlur(9))
    (train / "cat" / "blurred.png").write_bytes(_file(blurred))
    return tmp_path


def _spec(**fields: object) -> DataSpec:
    sources = {name: {"kind": "folder", "path": name} for name in ("train", "test")}
    return DataSpec.model_validate({**sources, "validation": {"fraction": 0.2}, **fields})


def _build(base_dir: Path, spec: DataSpec) -> BuiltStores:
    return build_stores(
        spec.model_copy(update={"bad_rows": BadRowsSpec(limit=1.0)}),
        base_dir=base_dir,
        store_root=Location(str(base_dir / "stores")),
        stored_size=SIZE,
        use_ray=False,
        on_progress=lambda done, total: None,
    )


def _report(base_dir: Path, spec: DataSpec | None = None, *, threads: int = 1) -> DataReport:
    spec = spec or _spec()
    stores = _build(base_dir, spec)
    return make_report(
        spec,
        stores.layout.listings,
        open_dataset(stores.ref),
        threads=threads,
        on_rows=lambda done, total: None,
    )


def _found(report: DataReport) -> dict[str, Finding]:
    return {finding.name: finding for finding in report.findings}


def _files(finding: Finding) -> list[str]:
    return [example.row.file for example in finding.examples]


def test_every_planted_fault_is_found_and_nothing_else(planted: Path) -> None:
    found = _found(_report(planted))

    # The pair 7 lies in one split or in two, as its hashes fall.
    parted = found["near_duplicates"].count == 0
    assert {name: finding.count for name, finding in found.items()} == {
        "unreadable": 1,
        "wrong_type": 1,
        "exact_duplicates": 3,
        "conflicting_labels": 2,
        "leaks": 3 if parted else 2,
        "near_duplicates": 0 if parted else 2,
        "suspicious_labels": 2,
        "blank": 1,
        "dark": 1,
        "light": 1,
        "blurred": 1,
        "small_classes": 1,
    }
    assert _files(found["unreadable"]) == ["bee/cut.jpg"]
    assert "cannot be decoded" in found["unreadable"].examples[0].detail
    (wrong,) = found["wrong_type"].examples
    assert (wrong.row.file, wrong.detail) == ("bee/is_png.jpg", "it is PNG and is called .jpg")
    for name in ("blank", "dark", "light", "blurred"):
        assert _files(found[name]) == [f"cat/{name}.png"]
    (small,) = found["small_classes"].examples
    assert (small.row.label, small.detail) == (
        "dog",
        "3 rows, of which a share of 0.2 is less than one",
    )


def test_a_duplicate_is_named_with_its_twin_and_both_classes(planted: Path) -> None:
    found = _found(_report(planted))

    twins = {
        frozenset((e.row.file, e.like.file)) for e in found["exact_duplicates"].examples if e.like
    }
    assert frozenset(("bee/03.png", "cat/of_bee_03.png")) in twins
    assert frozenset(("cat/04.png", "cat/of_cat_04.png")) in twins
    (conflict,) = found["conflicting_labels"].examples
    assert conflict.detail in ("equal bytes, bee and cat", "equal bytes, cat and bee")
    (suspicious,) = found["suspicious_labels"].examples
    assert suspicious.like is not None
    assert {suspicious.row.file, suspicious.like.file} == {
        "bee/07.png",
        "cat/near_train_bee_07.jpg",
    }


def test_leaks_into_a_test_source_are_found_exact_and_near(planted: Path) -> None:
    leaks = _found(_report(planted, _spec(validation=None)))["leaks"]

    pairs = {(e.row.split, e.row.file, e.like.file) for e in leaks.examples if e.like}
    assert pairs == {
        ("test", "bee/of_train_bee_05.png", "bee/05.png"),
        ("test", "cat/near_train_cat_06.jpg", "cat/06.png"),
    }
    assert leaks.note == "2 of 18 test rows (11.1%) are in train"


def test_near_leaks_between_shares_of_one_source_are_found(planted: Path) -> None:
    """The pair 7 lies in one split or in two, as its hashes fall: it is told in one of two ways."""
    pair = {"bee/07.png", "cat/near_train_bee_07.jpg"}
    for fold in range(3):
        found = _found(_report(planted, _spec(validation={"folds": 3, "fold": fold})))
        in_leaks = any({e.row.file, e.like.file} == pair for e in found["leaks"].examples if e.like)
        in_split = any(
            {e.row.file, e.like.file} == pair for e in found["near_duplicates"].examples if e.like
        )
        assert in_leaks != in_split


@pytest.mark.parametrize("change", ["threads", "blocks", "shards", "encoded"])
def test_the_figures_do_not_depend_on_how_they_are_computed(
    planted: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    expected = _report(planted)
    spec, threads = _spec(), 1
    match change:
        case "threads":
            spec, threads = _spec(stored_as="encoded"), 3
        case "blocks":
            monkeypatch.setattr(measure, "PIXELS_AT_ONCE", 7 * SIZE**2)
        case "shards":
            monkeypatch.setattr(shards, "MAX_ROWS_PER_SHARD", 5)
        case _:
            spec = _spec(stored_as="encoded")

    report = _report(planted, spec, threads=threads)

    assert report.findings == expected.findings
    assert report.proposals == expected.proposals
    for ours, theirs in zip(report.figures, expected.figures, strict=True):
        assert ours.rows == theirs.rows
        assert ours.brightness == pytest.approx(theirs.brightness, rel=1e-5)


def test_classes_are_counted_and_measured(planted: Path) -> None:
    report = _report(planted, _spec(validation=None))
    whole, bee, cat, dog = report.figures

    assert (whole.name, whole.rows) == ("all", {"train": 71, "test": 18})
    assert [each.rows["train"] for each in (bee, cat, dog)] == [31, 37, 3]
    assert (report.balance.largest, report.balance.smallest) == (37, 3)
    assert report.balance.ratio == pytest.approx(37 / 3)
    images = np.stack([report.rows.image(p) for p in np.flatnonzero(report.rows.label == 2)])
    assert dog.colour == pytest.approx(images.mean(axis=(0, 1, 2)) / 255, rel=1e-4)
    assert cat.shares["blank"] == pytest.approx(1 / 46)
    assert 0 < dog.brightness_std < 0.3


class TestTheList:
    def test_it_proposes_copies_leaks_conflicts_and_blank_images(
        self, planted: Path, tmp_path: Path
    ) -> None:
        lines = _list(planted, _spec(validation=None))

        assert {(line["source"], line["file"]): line["reason"] for line in lines} == {
            ("train", "bee/03.png"): "conflicting labels",
            ("train", "cat/of_bee_03.png"): "conflicting labels",
            ("train", "cat/of_cat_04.png"): "exact duplicate",
            ("train", "bee/05.png"): "exact leak",
            ("train", "cat/06.png"): "near leak",
            ("train", "cat/blank.png"): "blank",
        }
        by_file = {line["file"]: line for line in lines}
        assert by_file["cat/06.png"]["like"] == "test cat/near_train_cat_06.jpg"
        assert by_file["bee/05.png"]["class"] == "bee"

    def test_a_report_after_it_finds_nothing_of_that_and_keeps_the_list(
        self, planted: Path
    ) -> None:
        spec = _spec(validation=None)
        lines = _list(planted, spec)
        cleaned = spec.model_copy(update={"leave_out": "out/leave_out.csv"})

        report = _report(planted, cleaned)

        found = {finding.name: finding.count for finding in report.findings}
        nothing = ("exact_duplicates", "conflicting_labels", "leaks", "blank")
        assert not any(found[name] for name in nothing)
        assert not report.proposals
        files = write_report(report, Location(str(planted / "second")))
        again = _read(Path(files["leave_out"]))
        assert [(line["file"], line["hash"]) for line in again] == [
            (line["file"], line["hash"]) for line in sorted(lines, key=lambda line: line["file"])
        ]
        # What was to stay is still named, or a list would take it when the copy is gone.
        stays = {line["file"]: line["like"] for line in again}
        assert stays["cat/of_cat_04.png"] == "train cat/04.png"
        assert stays["bee/05.png"] == "test bee/of_train_bee_05.png"
        assert stays["bee/03.png"] == stays["cat/blank.png"] == ""

    def test_pictures_that_are_alike_by_nature_are_not_proposed(
        self, planted: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leaks, "MOST_NEAR_LEAKS", 0.005)

        reasons = {line["reason"] for line in _list(planted, _spec(validation=None))}

        note = _found(_report(planted, _spec(validation=None)))["leaks"].note
        assert note.endswith("alike by nature: look-alikes are not proposed")
        assert reasons == {"conflicting labels", "exact duplicate", "exact leak", "blank"}

    def test_an_edited_list_is_never_replaced(self, planted: Path) -> None:
        report = _report(planted)
        folder = Location(str(planted / "out"))
        first = write_report(report, folder)["leave_out"]
        same = write_report(report, folder)["leave_out"]
        Path(first).write_text("file\ncat/blank.png\n")

        other = write_report(report, folder)["leave_out"]
        Path(other).write_text("file\n")
        third = write_report(report, folder)["leave_out"]

        assert same == first
        assert other == str(folder / "leave_out.new.csv")
        assert (
            third == str(folder / "leave_out.new2.csv") == write_report(report, folder)["leave_out"]
        )
        assert Path(first).read_text() == "file\ncat/blank.png\n"
        assert Path(other).read_text() == "file\n"

    def test_it_can_be_read_whatever_files_are_called(self, planted: Path) -> None:
        name = 'a, "b"\r\n c.png'
        (planted / "train" / "cat" / "blank.png").rename(planted / "train" / "cat" / name)
        spec = _spec(validation=None)

        lines = _list(planted, spec)

        assert f"cat/{name}" in {line["file"] for line in lines}
        cleaned = spec.model_copy(update={"leave_out": "out/leave_out.csv"})
        assert len(_report(planted, cleaned).left_out_before) == len(lines)


def _list(base_dir: Path, spec: DataSpec) -> list[Mapping[str, str]]:
    files = write_report(_report(base_dir, spec), Location(str(base_dir / "out")))
    return _read(Path(files["leave_out"]))


def _read(path: Path) -> list[Mapping[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_say_what_was_found(planted: Path) -> None:
    report = _report(planted)

    files = write_report(report, Location(str(planted / "out")))

    written = json.loads(Path(files["json"]).read_text())
    assert {f["name"]: f["count"] for f in written["findings"]} == {
        finding.name: finding.count for finding in report.findings
    }
    (blank,) = next(f for f in written["findings"] if f["name"] == "blank")["examples"]
    assert (blank["source"], blank["file"], blank["label"]) == ("train", "cat/blank.png", "cat")
    page = Path(files["html"]).read_text()
    assert "bee/is_png.jpg" in page
    for finding in report.findings:
        picture_file = planted / "out" / "pictures" / f"{finding.name}.png"
        shown = any(example.places for example in finding.examples)
        assert picture_file.exists() == shown
        assert (f"pictures/{finding.name}.png" in page) == shown
        if shown:
            Image.open(picture_file).verify()


def test_a_report_may_lie_in_an_object_store(planted: Path, place: Location) -> None:
    report = _report(planted)

    files = write_report(report, place / "out")

    names = {entry.path for entry in (place / "out").files()}
    assert {"report.json", "report.html", "leave_out.csv", "pictures/blank.png"} <= names
    assert files["html"] == str(place / "out" / "report.html")


def test_a_sheet_shows_the_stored_pixels(planted: Path) -> None:
    report = _report(planted)
    write_report(report, Location(str(planted / "out")))

    sheet = np.asarray(Image.open(planted / "out" / "pictures" / "blank.png"))

    assert sheet[8 + 48, 8 + 48].tolist() == [90, 120, 91]


def test_names_of_files_cannot_write_into_the_page(planted: Path) -> None:
    blank = planted / "train" / "cat" / "<script>alert(1)<script>.png"
    (planted / "train" / "cat" / "blank.png").rename(blank)

    files = write_report(_report(planted), Location(str(planted / "out")))

    page = Path(files["html"]).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_sheets_of_an_earlier_report_are_gone(planted: Path) -> None:
    report = _report(planted)
    folder = Location(str(planted / "out"))
    write_report(report, folder)
    none = tuple(replace(finding, count=0, examples=()) for finding in report.findings)

    write_report(replace(report, findings=none), folder)

    assert not list((planted / "out" / "pictures").iterdir())


def test_a_dataset_without_a_readable_row_is_refused(tmp_path: Path) -> None:
    for name in ("train/bee", "train/cat"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").write_bytes(b"no image")

    with pytest.raises(DataError, match="no source has a row that can be read"):
        _report(tmp_path, _spec(test=None, validation=None))
