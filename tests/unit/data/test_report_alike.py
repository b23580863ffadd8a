"""Rows that are equal or look alike, in several copies, splits and classes at once."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from rayft.data.prepare import build_stores
from rayft.data.report import near
from rayft.data.report.build import DataReport, make_report
from rayft.data.report.finding import Finding
from rayft.spec.data import BadRowsSpec, DataSpec
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from tests.unit.data.test_report_near import picture

A, B, C = 1, 2, 3
Report = Callable[..., DataReport]


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Return a function that reports on files, given as `split/class/name` and what is in them."""

    def make(files: dict[str, bytes], *, splits: tuple[str, ...] = ("train", "test")) -> DataReport:
        # Each class has rows that are like no other.
        plain = {f"{s}/{c}/z{n}.png": 100 + n for s in ("train",) for n, c in enumerate(_CLASSES)}
        for name, content in {**{n: _png(seed) for n, seed in plain.items()}, **files}.items():
            place = tmp_path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        sources = {split: {"kind": "folder", "path": split} for split in splits}
        spec = DataSpec(bad_rows=BadRowsSpec(limit=1.0), **sources)  # type: ignore[arg-type]
        stores = build_stores(
            spec,
            base_dir=tmp_path,
            store_root=Location(str(tmp_path / "stores")),
            stored_size=48,
            use_ray=False,
            on_progress=lambda done, total: None,
        )
        return make_report(
            spec,
            stores.layout.listings,
            open_dataset(stores.ref),
            threads=1,
            on_rows=lambda done, total: None,
        )

    return make


_CLASSES = ("bee", "cat", "dog")


def _png(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


def _like(seed: int, *, size: int = 52, quality: int = 80) -> bytes:
    """Return a picture that looks like that of a seed, and is not equal to it."""
    file = io.BytesIO()
    picture(seed).resize((size, size), Image.Resampling.BILINEAR).save(
        file, "JPEG", quality=quality
    )
    return file.getvalue()


def _finding(report: DataReport, name: str) -> Finding:
    return next(finding for finding in report.findings if finding.name == name)


def _named(finding: Finding) -> list[tuple[str, str | None]]:
    """Return the rows and twins of the examples as `split/file`."""
    return [
        (f"{e.row.split}/{e.row.file}", f"{e.like.split}/{e.like.file}" if e.like else None)
        for e in finding.examples
    ]


def test_the_worst_leak_of_a_row_is_the_one_that_is_shown(report: Report) -> None:
    found = report(
        {"test/bee/0.png": _png(A), "train/bee/0.png": _png(A), "validation/bee/0.jpg": _like(A)},
        splits=("train", "validation", "test"),
    )

    leaks = _finding(found, "leaks")
    assert leaks.count == 2
    assert _named(leaks)[0] == ("test/bee/0.png", "train/bee/0.png")
    assert leaks.examples[0].detail == "equal bytes"
    assert _named(leaks)[1] == ("validation/bee/0.jpg", "train/bee/0.png")


def test_near_duplicates_of_a_split_are_rows_of_that_split(report: Report) -> None:
    """Two copies of A, one of them in test, look like B in training."""
    found = report(
        {
            "test/bee/0.png": _png(A),
            "train/bee/0.png": _png(A),
            "train/bee/1.png": _png(A),
            "train/bee/2.jpg": _like(A),
        }
    )

    near_duplicates = _finding(found, "near_duplicates")
    assert _named(near_duplicates) == [("train/bee/0.png", "train/bee/2.jpg")]
    assert near_duplicates.count == 3


def test_every_row_that_looks_like_another_class_counts(report: Report) -> None:
    found = report(
        {
            "train/bee/0.png": _png(A),
            "train/bee/1.png": _png(A),
            "train/cat/0.jpg": _like(A),
            "train/dog/0.png": _png(B),
            "train/dog/1.jpg": _like(B),
            # A content of two classes looks like a row of one of them.
            "train/bee/2.png": _png(C),
            "train/dog/2.png": _png(C),
            "train/bee/3.jpg": _like(C),
        },
        splits=("train",),
    )

    suspicious = _finding(found, "suspicious_labels")
    assert suspicious.count == 3 + 2
    assert {tuple(sorted((row, str(like)))) for row, like in _named(suspicious)} == {
        ("train/bee/0.png", "train/cat/0.jpg"),
        ("train/bee/3.jpg", "train/dog/2.png"),
    }
    assert all(" and " in example.detail for example in suspicious.examples)


def test_leaks_are_counted_by_row_and_named_by_the_most_alike(report: Report) -> None:
    found = report(
        {
            "test/bee/0.png": _png(A),
            "test/bee/1.png": _png(A),
            "train/bee/0.jpg": _like(A, size=40, quality=30),
            "train/bee/1.jpg": _like(A, size=60, quality=95),
        }
    )

    leaks = _finding(found, "leaks")
    assert leaks.note.startswith("2 of 2 test rows (100.0%) are in train; so many that")
    assert {like for _, like in _named(leaks)} == {"train/bee/1.jpg"}


def test_the_proposals_name_the_copy_of_another_class(report: Report) -> None:
    files = {f"train/{c}/{n}.png": _png(A) for c in ("bee", "cat") for n in range(2)}

    found = report(files, splits=("train",))

    proposed = {
        found.rows.name(p.place).file: found.rows.name(p.like).file
        for p in found.proposals
        if p.like is not None
    }
    assert proposed == {
        "bee/0.png": "cat/0.png",
        "bee/1.png": "cat/0.png",
        "cat/0.png": "bee/0.png",
        "cat/1.png": "bee/0.png",
    }
    assert _finding(found, "conflicting_labels").count == 4


def test_a_search_that_was_cut_short_is_said_wherever_it_counts(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "MAX_PAIRS", 1)
    files = {f"train/bee/{n}.jpg": _like(A, size=48 + n) for n in range(4)}

    found = report({**files, "test/bee/0.png": _png(A)})

    for name in ("leaks", "near_duplicates", "suspicious_labels"):
        assert "the search was cut short: there are more" in _finding(found, name).note, name
    assert not _finding(found, "exact_duplicates").note
