"""`data.leave_out`: rows that no split gets, found again wherever they lie."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayft.data.prepare import PreparedDataset, estimate_dataset, prepare_dataset
from rayft.errors import DataError
from rayft.plan.facts import DataFacts
from rayft.spec.data import DataSpec
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from rayft.store.rows import RowStore
from rayft.store.splits import row_hash
from tests.unit.conftest import make_image_file

Photos = Callable[..., Path]


def _spec(**fields: object) -> DataSpec:
    train = {"kind": "folder", "path": "photos"}
    return DataSpec.model_validate({"train": train, "leave_out": "list.csv", **fields})


def _prepare(base_dir: Path, spec: DataSpec) -> PreparedDataset:
    return prepare_dataset(
        spec,
        base_dir=base_dir,
        store_root=Location(str(base_dir / "stores")),
        image_size=8,
        stored_size=8,
        use_ray=False,
        on_progress=lambda done, total: None,
    )


def _estimate(base_dir: Path, spec: DataSpec) -> DataFacts:
    root = Location(str(base_dir / "stores"))
    return estimate_dataset(spec, base_dir=base_dir, store_root=root, stored_size=8)


def _store(prepared: PreparedDataset) -> RowStore:
    return open_dataset(prepared.ref).splits["train"].store


def _hash(prepared: PreparedDataset, file: str) -> str:
    store = _store(prepared)
    row = next(row for row in range(store.num_rows) if store.source_of(row) == file)
    return f"{int(store.content_hashes[row]):016x}"


def _write(base_dir: Path, *rows: dict[str, str]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (base_dir / "list.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _kept(prepared: PreparedDataset) -> dict[str, list[str]]:
    splits: dict[Any, Any] = dict(open_dataset(prepared.ref).splits)
    return {
        name: [split.store.source_of(row) for row in split.row_ids.tolist()]
        for name, split in splits.items()
    }


def test_named_rows_are_in_no_split_and_no_other_moves(photos: Photos, tmp_path: Path) -> None:
    photos(per_class=20)
    shares = {"validation": {"fraction": 0.2}, "test": {"fraction": 0.2}}
    whole = _prepare(tmp_path, _spec(leave_out=None, **shares))
    gone = {"bird/03.png", "cat/07.png", "cat/19.png"}
    _write(tmp_path, *({"file": file} for file in sorted(gone)))

    less = _prepare(tmp_path, _spec(**shares))

    assert not less.built
    assert less.facts.num_left_out == 3
    assert _kept(less) == {
        name: [file for file in files if file not in gone] for name, files in _kept(whole).items()
    }
    assert _estimate(tmp_path, _spec(**shares)) == less.facts


def test_another_list_is_another_dataset_of_the_same_store(photos: Photos, tmp_path: Path) -> None:
    photos()
    found = []
    for file in ("bird/00.png", "bird/01.png"):
        _write(tmp_path, {"file": file})
        found.append(open_dataset(_prepare(tmp_path, _spec()).ref))

    assert found[0].fingerprint != found[1].fingerprint
    keys = {dataset.splits["train"].store.manifest.key for dataset in found}
    assert len(keys) == 1


def test_a_row_is_found_by_its_hash_when_files_were_renamed(photos: Photos, tmp_path: Path) -> None:
    root = photos()
    name = "bird/03.png"
    digits = _hash(_prepare(tmp_path, _spec(leave_out=None)), name)
    _write(tmp_path, {"source": "train", "file": name, "hash": digits, "class": "bird"})
    (root / "bird" / "03.png").rename(root / "bird" / "99.png")
    (root / "bird" / "00.png").rename(root / "bird" / "03.png")

    kept = _kept(_prepare(tmp_path, _spec()))["train"]

    assert "bird/99.png" not in kept
    assert "bird/03.png" in kept


class TestCopies:
    @pytest.fixture
    def digits(self, photos: Photos, tmp_path: Path) -> str:
        root = photos()
        for name in ("bird/90.png", "bird/91.png", "cat/92.png"):
            (root / name).write_bytes(make_image_file(500))
        return _hash(_prepare(tmp_path, _spec(leave_out=None)), "cat/92.png")

    def _gone(self, base_dir: Path, *rows: dict[str, str]) -> list[str]:
        _write(base_dir, *rows)
        kept = _kept(_prepare(base_dir, _spec()))["train"]
        return [f for f in ("bird/90.png", "bird/91.png", "cat/92.png") if f not in kept]

    def test_the_file_says_which_is_meant(self, digits: str, tmp_path: Path) -> None:
        assert self._gone(tmp_path, {"file": "bird/91.png", "hash": digits}) == ["bird/91.png"]

    def test_else_the_class_does(self, digits: str, tmp_path: Path) -> None:
        row = {"file": "old name", "hash": digits, "class": "cat"}

        assert self._gone(tmp_path, row) == ["cat/92.png"]

    def test_two_lines_about_two_copies_take_both(self, digits: str, tmp_path: Path) -> None:
        rows = [{"file": f"old {n}", "hash": digits, "class": "bird"} for n in range(2)]

        assert self._gone(tmp_path, *rows) == ["bird/90.png", "bird/91.png"]


class TestOneFileInTwoRows:
    """A manifest names `00.png` as cat and as dog, and `01.png` twice as cat."""

    @pytest.fixture
    def kept(self, tmp_path: Path) -> Callable[..., list[tuple[str, str]]]:
        lines = [("00.png", "cat"), ("01.png", "cat"), ("02.png", "dog"), ("03.png", "dog")]
        for index, (name, _) in enumerate(lines):
            (tmp_path / name).write_bytes(make_image_file(index))
        lines += [("00.png", "dog"), ("01.png", "cat")]
        text = "".join(f"{name},{label}\n" for name, label in lines)
        (tmp_path / "rows.csv").write_text("image,label\n" + text)
        train = {"kind": "csv", "path": "rows.csv", "image": "image", "label": "label"}

        def kept(*rows: dict[str, str], lines: str = text) -> list[tuple[str, str]]:
            (tmp_path / "rows.csv").write_text("image,label\n" + lines)
            _write(tmp_path, *rows)
            split = open_dataset(_prepare(tmp_path, _spec(train=train)).ref).splits["train"]
            store = split.store
            return [
                (store.source_of(row), store.manifest.classes[int(store.labels[row])])
                for row in split.row_ids.tolist()
            ]

        return kept

    @pytest.mark.parametrize("label", ["cat", "dog"])
    def test_the_class_says_which_is_meant(
        self, kept: Callable[..., list[tuple[str, str]]], label: str
    ) -> None:
        digits = f"{row_hash(make_image_file(0)):016x}"
        for hashed in (digits, ""):
            left = kept({"file": "00.png", "hash": hashed, "class": label})
            assert [c for file, c in left if file == "00.png"] == [
                c for c in ("cat", "dog") if c != label
            ]

    def test_a_file_alone_is_all_of_its_rows(
        self, kept: Callable[..., list[tuple[str, str]]]
    ) -> None:
        assert [file for file, _ in kept({"file": "00.png"})] == [
            "01.png",
            "02.png",
            "03.png",
            "01.png",
        ]

    def test_a_line_of_the_report_is_one_row(
        self, kept: Callable[..., list[tuple[str, str]]]
    ) -> None:
        digits = f"{row_hash(make_image_file(1)):016x}"
        line = {"file": "01.png", "hash": digits, "class": "cat", "like": "train 01.png"}

        assert [file for file, _ in kept(line)].count("01.png") == 1

    def test_the_other_class_stays_when_the_row_is_gone(
        self, kept: Callable[..., list[tuple[str, str]]]
    ) -> None:
        digits = f"{row_hash(make_image_file(0)):016x}"
        line = {"file": "00.png", "hash": digits, "class": "cat", "like": "train 00.png"}
        lines = "00.png,dog\n01.png,cat\n02.png,dog\n03.png,cat\n"

        with pytest.raises(DataError, match=r"line 2 of list\.csv names 00\.png"):
            kept(line, lines=lines)

    def test_a_class_that_the_file_has_no_more_is_refused(
        self, kept: Callable[..., list[tuple[str, str]]]
    ) -> None:
        lines = "00.png,dog\n01.png,cat\n02.png,dog\n03.png,cat\n"

        with pytest.raises(DataError, match=r"line 2 of list\.csv names 00\.png"):
            kept({"file": "00.png", "class": "cat"}, lines=lines)


class TestAListOlderThanItsFiles:
    """The report kept `bird/90.png` and proposed its copies `bird/91.png` and `bird/92.png`."""

    @pytest.fixture
    def root(self, photos: Photos, tmp_path: Path) -> Path:
        root = photos()
        for name in ("bird/90.png", "bird/91.png", "bird/92.png"):
            (root / name).write_bytes(make_image_file(500))
        digits = f"{row_hash(make_image_file(500)):016x}"
        lines = [
            {"file": f"bird/{n}.png", "hash": digits, "class": "bird", "like": "train bird/90.png"}
            for n in (91, 92)
        ]
        _write(tmp_path, *lines)
        return root

    @pytest.mark.parametrize("gone", [["91"], ["92"], ["91", "92"]])
    def test_the_copy_that_stays_is_never_taken_for_one_that_is_gone(
        self, root: Path, tmp_path: Path, gone: list[str]
    ) -> None:
        for name in gone:
            (root / "bird" / f"{name}.png").unlink()

        with pytest.raises(DataError) as caught:
            _prepare(tmp_path, _spec())

        named = [problem.what.split(",")[0].rsplit("/", 1)[1] for problem in caught.value.problems]
        assert named == [f"{name}.png" for name in gone]

    def test_a_copy_of_another_class_is_never_taken_instead(
        self, root: Path, tmp_path: Path
    ) -> None:
        """Of equal a (cat), c (cat) and b (dog) the list names b alone, and b is gone."""
        digits = f"{row_hash(make_image_file(501)):016x}"
        for name in ("a", "c"):
            (root / "cat" / f"{name}.png").write_bytes(make_image_file(501))
        _write(
            tmp_path,
            {"file": "dog/b.png", "hash": digits, "class": "dog", "like": "train cat/a.png"},
        )

        with pytest.raises(DataError, match=r"line 2 of list\.csv names dog/b\.png"):
            _prepare(tmp_path, _spec())

    @pytest.mark.parametrize("num_copies", [3, 20])
    def test_many_copies_are_found_as_few_are(
        self, root: Path, tmp_path: Path, num_copies: int
    ) -> None:
        digits = f"{row_hash(make_image_file(502)):016x}"
        names = [f"cat/c{number:02d}.png" for number in range(num_copies)]
        for name in names:
            (root / name).write_bytes(make_image_file(502))
        line = {"hash": digits, "class": "cat", "like": f"train {names[0]}"}
        _write(tmp_path, *({"file": name, **line} for name in names[1:]))
        (root / names[-1]).rename(root / "cat" / "moved.png")

        kept = _kept(_prepare(tmp_path, _spec()))["train"]

        assert [name for name in kept if name in {*names, "cat/moved.png"}] == [names[0]]

    def test_where_all_were_renamed_one_stays(self, root: Path, tmp_path: Path) -> None:
        for name in ("90", "91", "92"):
            (root / "bird" / f"{name}.png").rename(root / "bird" / f"new{name}.png")

        kept = _kept(_prepare(tmp_path, _spec()))["train"]

        assert sum("new" in file for file in kept) == 1

    def test_more_lines_than_rows_are_refused(self, root: Path, tmp_path: Path) -> None:
        for name in ("90", "91"):
            (root / "bird" / f"{name}.png").unlink()
        (root / "bird" / "92.png").rename(root / "bird" / "new.png")

        with pytest.raises(DataError, match=r"line 3 of list\.csv names bird/92\.png"):
            _prepare(tmp_path, _spec())


def test_a_line_that_stands_twice_is_no_error(photos: Photos, tmp_path: Path) -> None:
    photos()
    digits = _hash(_prepare(tmp_path, _spec(leave_out=None)), "cat/01.png")
    line = {"file": "cat/01.png", "hash": digits, "class": "cat"}
    _write(tmp_path, line, line, {"hash": digits})

    assert _prepare(tmp_path, _spec()).facts.num_left_out == 1
    (tmp_path / "photos" / "cat" / "01.png").rename(tmp_path / "photos" / "cat" / "new.png")
    assert _prepare(tmp_path, _spec()).facts.num_left_out == 1


def test_a_row_that_is_like_one_of_the_same_name_in_another_source_is_found(
    photos: Photos, tmp_path: Path
) -> None:
    photos()
    photos("more")
    digits = _hash(_prepare(tmp_path, _spec(leave_out=None)), "cat/01.png")
    # Its class was mended since.
    line = {"file": "cat/01.png", "hash": digits, "class": "bird", "like": "test cat/01.png"}
    _write(tmp_path, {"source": "train", **line})

    kept = _kept(_prepare(tmp_path, _spec(test={"kind": "folder", "path": "more"})))

    assert "cat/01.png" not in kept["train"]
    assert "cat/01.png" in kept["test"]


def test_a_line_names_the_source_it_is_about(photos: Photos, tmp_path: Path) -> None:
    photos()
    photos("more")
    _write(tmp_path, {"source": "test", "file": "cat/01.png", "note": "kept in training"})

    kept = _kept(_prepare(tmp_path, _spec(test={"kind": "folder", "path": "more"})))

    assert "cat/01.png" in kept["train"]
    assert "cat/01.png" not in kept["test"]


def test_the_number_is_known_before_anything_is_prepared(photos: Photos, tmp_path: Path) -> None:
    photos()
    _write(tmp_path, {"file": "cat/01.png"}, {"file": "cat/02.png"})

    assert _estimate(tmp_path, _spec()).num_left_out == 2


def test_a_list_without_lines_leaves_nothing_out(photos: Photos, tmp_path: Path) -> None:
    photos()
    (tmp_path / "list.csv").write_text("\ufefffile,hash\n", encoding="utf-8")

    assert _prepare(tmp_path, _spec()).facts.num_left_out == 0


def test_rows_that_are_not_there_are_refused_with_their_lines(
    photos: Photos, tmp_path: Path
) -> None:
    photos()
    _write(
        tmp_path,
        {"source": "", "file": "cat/01.png", "hash": ""},
        {"source": "", "file": "cat/no.png", "hash": ""},
        {"source": "train", "file": "cat/02.png", "hash": "00000000000000ff"},
        {"source": "test", "file": "cat/03.png", "hash": ""},
    )

    with pytest.raises(DataError) as caught:
        _prepare(tmp_path, _spec())

    assert [problem.what for problem in caught.value.problems] == [
        "line 3 of list.csv names cat/no.png, and the train source has no such row",
        "line 4 of list.csv names cat/02.png, and the train source has no such row with the hash "
        "00000000000000ff",
        "line 5 of list.csv names cat/03.png, and `data.test` is no source of rows",
    ]
    assert {problem.where for problem in caught.value.problems} == {"data.leave_out"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "list.csv cannot be read: No such file or directory"),
        ("name\nx\n", "list.csv is no CSV file: its first line names neither a column `file` nor"),
        ("", "list.csv is no CSV file: its first line"),
        ("file,hash\n,\n", "line 2 of list.csv: it gives neither a file nor a hash"),
        ("hash\nxyz\n", "line 2 of list.csv: hash is 'xyz'; expected 16 digits"),
        ("source,file\ntrian,a\n", "line 2 of list.csv: source is 'trian'; expected train, valid"),
        ("file\n\xff\n", "list.csv is no CSV file: 'utf-8' codec"),
    ],
)
def test_a_file_that_is_no_list_is_refused_before_rows_are_read(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, what: str
) -> None:
    photos()
    if text is not None:
        (tmp_path / "list.csv").write_text(text, encoding="latin-1")
    monkeypatch.setattr("rayft.data.assemble.make_shard", pytest.fail)

    for refused in (_prepare, _estimate):
        with pytest.raises(DataError) as caught:
            refused(tmp_path, _spec())
        assert what in str(caught.value)


def test_leaving_out_a_whole_class_is_refused(photos: Photos, tmp_path: Path) -> None:
    photos(per_class=2)
    _write(tmp_path, {"file": "cat/00.png"}, {"file": "cat/01.png"})

    with pytest.raises(DataError, match=r"data\.train: classes without a row in train: cat"):
        _prepare(tmp_path, _spec())
