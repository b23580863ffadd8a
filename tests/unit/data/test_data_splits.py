"""Shares and folds of a prepared dataset, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rayft.data.prepare import PreparedDataset, estimate_dataset, prepare_dataset
from rayft.errors import DataError
from rayft.plan.facts import DataFacts
from rayft.spec.data import DataSpec
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset
from tests.unit.conftest import make_image_file

Photos = Callable[..., Path]


def _spec(**fields: object) -> DataSpec:
    return DataSpec.model_validate({"train": {"kind": "folder", "path": "photos"}, **fields})


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


def test_what_is_planned_of_a_stratified_share_comes_true(photos: Photos, tmp_path: Path) -> None:
    photos(per_class=30)
    spec = _spec(validation={"fraction": 0.15}, test={"fraction": 0.2})

    planned, prepared = _estimate(tmp_path, spec), _prepare(tmp_path, spec).facts

    assert planned.counts == {"train": (19, 19), "validation": (5, 5), "test": (6, 6)}
    assert prepared.counts == planned.counts


def test_folds_validate_every_row_once(photos: Photos, tmp_path: Path) -> None:
    photos(per_class=13)
    splits = []
    for fold in range(5):
        spec = _spec(validation={"folds": 5, "fold": fold})
        planned, prepared = _estimate(tmp_path, spec), _prepare(tmp_path, spec)
        splits.append(open_dataset(prepared.ref).splits)
        counts = prepared.facts.counts
        assert all(count in (2, 3) for count in counts["validation"])
        assert tuple(np.add(counts["train"], counts["validation"])) == (13, 13)
        assert all(abs(c - 2.6) < 1 for c in planned.counts["validation"])

    rows = np.concatenate([split["validation"].row_ids for split in splits])
    assert sorted(rows.tolist()) == list(range(26))
    assert len({id(split["train"].store) for split in splits}) == 5
    assert len({split["train"].store.manifest.key for split in splits}) == 1


def test_groups_with_an_image_in_common_stay_together(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    rows = []
    for group in range(40):
        label = ("bird", "cat")[group % 2]
        for image in range(3):
            name = f"{group}-{image}.png"
            # The first image of four groups of a class is the same.
            seed = group % 2 + 100 * (group // 8) if image == 0 else 1000 + 3 * group + image
            (root / name).write_bytes(make_image_file(seed))
            rows.append(f"{name},{label},{group}")
    (root / "list.csv").write_text("\n".join(["image,label,who", *rows]))
    source = {"kind": "csv", "path": "photos/list.csv", "group": "who"}

    for fold in range(3):
        spec = _spec(train=source, validation={"folds": 3, "fold": fold})
        splits = open_dataset(_prepare(tmp_path, spec).ref).splits
        store = splits["train"].store
        for column in (store.group_hashes, store.content_hashes):
            inside, outside = (set(column[splits[n].row_ids]) for n in ("train", "validation"))
            assert not inside & outside
        assert len(splits["train"]) + len(splits["validation"]) == 120


class TestTooFewRowsForTheFolds:
    def test_the_class_and_its_count_are_named_before_anything_is_prepared(
        self, photos: Photos, tmp_path: Path
    ) -> None:
        photos(per_class=4)
        photos(classes=("dog",), per_class=9)

        with pytest.raises(DataError) as caught:
            _estimate(tmp_path, _spec(validation={"folds": 5, "fold": 0}))

        (problem,) = caught.value.problems
        assert problem.where == "data.validation.folds"
        assert problem.what == (
            "5 folds need as many rows of each class that can be parted, and there are fewer: "
            "bird has 4, cat has 4"
        )
        assert problem.fix.startswith("take 4 folds")

    def test_groups_count_once(self, photos: Photos, tmp_path: Path) -> None:
        root = photos(per_class=8)
        rows = [f"{c}/{i:02d}.png,{c},{c}{i % 3}" for c in ("bird", "cat") for i in range(8)]
        (root / "list.csv").write_text("\n".join(["image,label,who", *rows]))
        source = {"kind": "csv", "path": "photos/list.csv", "group": "who"}

        with pytest.raises(DataError, match=r"bird has 8 in 3 groups, cat has 8 in 3 groups"):
            _estimate(tmp_path, _spec(train=source, validation={"folds": 4, "fold": 0}))
        # What test takes of groups is not known before the rows are, and is not told as if it was.
        beside = {"validation": {"folds": 4, "fold": 0}, "test": {"fraction": 0.2}}
        with pytest.raises(DataError, match=r"there are fewer: bird has 8 in 3 groups"):
            _estimate(tmp_path, _spec(train=source, **beside))
        fits = _prepare(tmp_path, _spec(train=source, validation={"folds": 3, "fold": 0}))

        splits = open_dataset(fits.ref).splits
        members = [
            {(row // 8, row % 8 % 3) for row in splits[name].row_ids.tolist()}
            for name in ("train", "validation")
        ]
        assert not members[0] & members[1]
        assert len(members[1]) == 2
        assert all(fits.facts.counts["validation"])

    def test_copies_count_once_as_soon_as_they_are_known(
        self, photos: Photos, tmp_path: Path
    ) -> None:
        root = photos(per_class=3)
        for copy in range(3):
            (root / "cat" / f"c{copy}.png").write_bytes(make_image_file(3))
        (root / "bird" / "b.png").write_bytes(make_image_file(77))
        spec = _spec(validation={"folds": 4, "fold": 0})

        _estimate(tmp_path, spec)
        with pytest.raises(DataError, match=r"cat has 6 in 3 groups"):
            _prepare(tmp_path, spec)

    def test_a_large_test_share_leaves_few(self, photos: Photos, tmp_path: Path) -> None:
        photos(per_class=40)
        photos(classes=("dog",), per_class=8)
        fields = {"validation": {"folds": 5, "fold": 0}, "test": {"fraction": 0.5}}

        with pytest.raises(DataError, match="test leaves fewer: dog has 4") as caught:
            _estimate(tmp_path, _spec(**fields))
        assert "take 4 folds" in str(caught.value)

    def test_rows_that_are_left_out_do_not_count(self, photos: Photos, tmp_path: Path) -> None:
        photos(per_class=5)
        (tmp_path / "list.csv").write_text("file\ncat/01.png\n")
        spec = _spec(validation={"folds": 5, "fold": 0}, leave_out="list.csv")

        with pytest.raises(DataError, match="there are fewer: cat has 4"):
            _prepare(tmp_path, spec)

    def test_a_class_whose_groups_belong_to_others_is_told(
        self, photos: Photos, tmp_path: Path
    ) -> None:
        """Each dog is in a group with two cats, and groups fall where the cats do."""
        root = photos(classes=("bird", "cat", "dog"), per_class=12)
        rows = [f"{c}/{i:02d}.png,{c},{c}{i}" for c in ("bird",) for i in range(12)]
        rows += [f"cat/{i:02d}.png,cat,cat{i // 2}" for i in range(12)]
        rows += [f"dog/{i:02d}.png,dog,cat{i}" for i in (0, 1, 4)]
        (root / "list.csv").write_text("\n".join(["image,label,who", *rows]))
        source = {"kind": "csv", "path": "photos/list.csv", "group": "who"}

        spec = _spec(train=source, validation={"folds": 3, "fold": 1})

        _estimate(tmp_path, spec)
        with pytest.raises(DataError) as caught:
            _prepare(tmp_path, spec)

        (problem,) = caught.value.problems
        assert problem.what == (
            "fold 0 has no row of class dog, whose 3 groups lie together with rows of other classes"
        )

    def test_a_test_share_takes_its_rows_first(self, photos: Photos, tmp_path: Path) -> None:
        photos(per_class=4)
        fields = {"validation": {"folds": 4, "fold": 0}, "test": {"fraction": 0.25}}

        with pytest.raises(DataError, match="test leaves fewer: bird has 3, cat has 3") as caught:
            _estimate(tmp_path, _spec(**fields))
        assert "take 3 folds" in str(caught.value)
        fields["validation"] = {"folds": 3, "fold": 0}
        assert _prepare(tmp_path, _spec(**fields)).facts.counts["validation"] == (1, 1)
