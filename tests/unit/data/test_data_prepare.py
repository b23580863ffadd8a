"""Preparing as a whole, in process: what is built, what is refused, what survives a kill."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rayft.data import checks
from rayft.data.prepare import PreparedDataset, estimate_dataset, prepare_dataset
from rayft.data.statistics import channel_statistics
from rayft.errors import DataError, SpecError
from rayft.spec.data import DataSpec
from rayft.storage.location import Location
from rayft.store import shards
from rayft.store.dataset import open_dataset

Photos = Callable[..., Path]
ImageFile = Callable[..., bytes]
SIZE = 8


def _ignore(done: int, total: int) -> None:
    pass


def _spec(**fields: object) -> DataSpec:
    return DataSpec.model_validate({"train": {"kind": "folder", "path": "photos"}, **fields})


def _prepare(base_dir: Path, spec: DataSpec, *, root: str = "stores") -> PreparedDataset:
    return prepare_dataset(
        spec,
        base_dir=base_dir,
        store_root=Location(str(base_dir / root)),
        image_size=SIZE,
        stored_size=SIZE,
        use_ray=False,
        on_progress=_ignore,
    )


def _refusal(base_dir: Path, spec: DataSpec) -> str:
    with pytest.raises(DataError) as caught:
        _prepare(base_dir, spec)
    assert not _stores(base_dir / "stores")
    return str(caught.value)


def _stores(root: Path) -> list[str]:
    """Every entry of the stores' folder, hidden ones included."""
    folder = root / "rows"
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "rows").rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_ROWS_PER_SHARD", 5)


@pytest.mark.usefixtures("small_shards")
def test_a_prepared_dataset_opens_with_every_row(photos: Photos, tmp_path: Path) -> None:
    photos(per_class=30)

    prepared = _prepare(tmp_path, _spec(test={"fraction": 0.2}))
    dataset = open_dataset(prepared.ref)

    assert prepared.built
    assert dataset.classes == ("bird", "cat")
    assert sorted(np.concatenate([s.row_ids for s in dataset.splits.values()])) == list(range(60))
    assert len(dataset.splits["train"].store.manifest.shards) == 12
    assert prepared.facts.exact
    assert prepared.facts.counts == {n: s.counts() for n, s in dataset.splits.items()}
    dataset.splits["train"].store.verify()


def test_a_second_call_finds_the_stores(photos: Photos, tmp_path: Path) -> None:
    photos()
    first = _prepare(tmp_path, _spec())

    second = _prepare(tmp_path, _spec())

    assert (first.built, second.built) == (True, False)
    assert second.facts == first.facts
    assert second.ref == first.ref


def test_equal_sources_elsewhere_give_the_same_bytes(photos: Photos, tmp_path: Path) -> None:
    root = photos()
    shutil.copytree(root, tmp_path / "copy" / "pictures")
    elsewhere = _spec(train={"kind": "folder", "path": "pictures"})

    _prepare(tmp_path, _spec())
    _prepare(tmp_path / "copy", elsewhere)

    assert _hashes(tmp_path / "stores") == _hashes(tmp_path / "copy" / "stores")


@pytest.mark.parametrize("change", ["content", "name", "class", "size", "resize"])
def test_whatever_changes_the_rows_changes_the_store(
    photos: Photos, tmp_path: Path, image_file: ImageFile, change: str
) -> None:
    root = photos()
    before = _prepare(tmp_path, _spec()).ref.splits["train"].store
    first = root / "cat" / "00.png"
    if change == "content":
        first.write_bytes(image_file(99))
    elif change == "name":
        first.rename(root / "cat" / "99.png")
    elif change == "class":
        first.rename(root / "bird" / "99.png")
    spec = _spec(resize="pad") if change == "resize" else _spec()

    after = prepare_dataset(
        spec,
        base_dir=tmp_path,
        store_root=Location(str(tmp_path / "stores")),
        image_size=SIZE,
        stored_size=SIZE + (change == "size"),
        use_ray=False,
        on_progress=_ignore,
    )

    assert after.built
    assert after.ref.splits["train"].store != before


def test_unchanged_files_are_not_read_again(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos()
    _prepare(tmp_path, _spec())

    monkeypatch.setattr("rayft.data.fingerprint.open_regular", pytest.fail)

    assert not _prepare(tmp_path, _spec()).built


def test_a_plan_before_preparing_expects_and_after_it_knows(photos: Photos, tmp_path: Path) -> None:
    photos(per_class=30)
    spec = _spec(validation={"fraction": 0.2})

    def estimate() -> object:
        return estimate_dataset(
            spec, base_dir=tmp_path, store_root=Location(str(tmp_path / "stores")), stored_size=SIZE
        )

    before = estimate()
    assert not (tmp_path / "stores").exists()
    prepared = _prepare(tmp_path, spec)

    assert before.counts == {"train": (24, 24), "validation": (6, 6)}
    assert not before.exact
    assert estimate() == prepared.facts


def test_rows_keep_their_split_when_rows_are_added(
    photos: Photos, tmp_path: Path, image_file: ImageFile
) -> None:
    root = photos(per_class=30)
    spec = _spec(test={"fraction": 0.3, "stratify": False})

    def test_files() -> set[str]:
        split = open_dataset(_prepare(tmp_path, spec).ref).splits["test"]
        return {split.store.source_of(row) for row in split.row_ids.tolist()}

    before = test_files()
    for seed in range(100, 130):
        (root / "cat" / f"a{seed}.png").write_bytes(image_file(seed))

    after = test_files()

    assert {name for name in after if "/a1" not in name} == before


def test_a_group_is_never_split(photos: Photos, tmp_path: Path) -> None:
    root = photos(per_class=40)
    rows = [f"{c}/{i:02d}.png,{c},{i % 10}" for c in ("bird", "cat") for i in range(40)]
    (root / "list.csv").write_text("\n".join(["image,label,who", *rows]))
    source = {"kind": "csv", "path": "photos/list.csv", "group": "who"}

    prepared = _prepare(tmp_path, _spec(train=source, test={"fraction": 0.3}))

    splits = open_dataset(prepared.ref).splits.values()
    groups = [{row % 10 for row in split.row_ids.tolist()} for split in splits]
    assert not groups[0] & groups[1]


def test_rows_without_a_group_are_no_group_of_their_own(photos: Photos, tmp_path: Path) -> None:
    root = photos(per_class=40)
    rows = [f"{c}/{i:02d}.png,{c}," for c in ("bird", "cat") for i in range(40)]
    (root / "list.csv").write_text("\n".join(["image,label,who", *rows]))
    source = {"kind": "csv", "path": "photos/list.csv", "group": "who"}

    prepared = _prepare(tmp_path, _spec(train=source, test={"fraction": 0.3}))

    assert all(prepared.facts.counts["test"])


def test_other_labels_of_the_same_files_are_another_store(photos: Photos, tmp_path: Path) -> None:
    root = photos(per_class=2)
    source = {"kind": "csv", "path": "photos/list.csv"}

    def store(*labels: str) -> str:
        rows = [f"cat/00.png,{labels[0]}", f"cat/01.png,{labels[1]}", f"bird/00.png,{labels[2]}"]
        (root / "list.csv").write_text("\n".join(["image,label", *rows]))
        return _prepare(tmp_path, _spec(train=source)).ref.splits["train"].store

    assert len({store("a", "a", "b"), store("a", "b", "b"), store("a", "a", "c")}) == 3


class TestBadRows:
    @pytest.fixture
    def with_bad(self, photos: Photos) -> Path:
        root = photos(per_class=10)
        (root / "bird" / "03.png").write_bytes(b"")
        (root / "cat" / "05.png").write_bytes(b"<html>")
        return root

    def test_above_the_limit_they_are_listed_and_nothing_is_left(
        self, with_bad: Path, tmp_path: Path
    ) -> None:
        message = _refusal(tmp_path, _spec())

        assert "2 of 20 images cannot be read" in message
        assert "bird/03.png: the file is empty" in message
        assert "cat/05.png: it is no image" in message
        assert "at least 0.1" in message

    def test_below_the_limit_they_are_put_aside_and_recorded(
        self, with_bad: Path, tmp_path: Path
    ) -> None:
        prepared = _prepare(tmp_path, _spec(bad_rows={"limit": 0.1}))

        store = open_dataset(prepared.ref).splits["train"].store
        assert prepared.facts.num_bad_rows == 2
        assert prepared.facts.counts["train"] == (9, 9)
        assert [(r.row, r.source) for r in store.manifest.quarantined] == [
            (3, "bird/03.png"),
            (15, "cat/05.png"),
        ]
        assert not store.gather([3, 15]).any()

    @pytest.mark.parametrize(("num_bad", "num_rows"), [(1, 3), (29, 100), (2, 300), (7, 9)])
    def test_the_limit_that_is_suggested_is_enough(self, num_bad: int, num_rows: int) -> None:
        def check(limit: float) -> None:
            checks.refuse_bad_rows(
                {"a": "b"}, num_bad=num_bad, num_rows=num_rows, limit=limit, where="here"
            )

        with pytest.raises(DataError) as caught:
            check(0.0)
        suggested = float(str(caught.value).split("at least ")[1].split(" ")[0])

        check(suggested)
        check(num_bad / num_rows)

    def test_a_stricter_limit_refuses_a_store_that_is_there(
        self, with_bad: Path, tmp_path: Path
    ) -> None:
        _prepare(tmp_path, _spec(bad_rows={"limit": 0.1}))

        with pytest.raises(DataError, match="2 of 20"):
            _prepare(tmp_path, _spec(bad_rows={"limit": 0.05}))

    def test_missing_files_are_refused_before_anything_is_decoded(
        self, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = photos()
        lines = ["image,label", "cat/00.png,c", "cat/no.png,c", "bird/00.png,b"]
        (root / "list.csv").write_text("\n".join(lines))
        monkeypatch.setattr("rayft.data.assemble.make_shard", pytest.fail)

        message = _refusal(tmp_path, _spec(train={"kind": "csv", "path": "photos/list.csv"}))

        assert "1 of 3 images cannot be read" in message
        assert "cat/no.png: it does not exist" in message


class TestRefusals:
    def test_labels_that_training_does_not_know(self, photos: Photos, tmp_path: Path) -> None:
        photos()
        photos("more", classes=("bird", "dog", "eel"))
        spec = _spec(test={"kind": "folder", "path": "more"})

        assert "test that training does not have: dog, eel" in _refusal(tmp_path, spec)

    def test_one_class_only(self, photos: Photos, tmp_path: Path) -> None:
        photos(classes=("bird",))

        assert "one class only: bird" in _refusal(tmp_path, _spec())

    def test_the_problems_of_all_sources_at_once(self, tmp_path: Path) -> None:
        spec = _spec(test={"kind": "csv", "path": "no.csv"})

        message = _refusal(tmp_path, spec)

        assert "photos: there is no such folder" in message
        assert "no.csv" in message

    def test_a_class_that_a_share_misses(self, photos: Photos, tmp_path: Path) -> None:
        photos(per_class=1, classes=("bird", "cat", "dog"))
        loose = _spec(test={"fraction": 1e-9, "stratify": False})

        with pytest.raises(DataError) as caught:
            _prepare(tmp_path, _spec(test={"fraction": 1e-9}))
        with pytest.raises(DataError, match=r"data\.test: classes without a row"):
            _prepare(tmp_path, loose)

        message = str(caught.value)
        assert "data.test: classes without a row in test: bird, cat, dog" in message
        assert "`data.test.fraction`" in message
        assert "`data.test.stratify` to false" in message

    def test_a_disk_that_is_too_small(
        self, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        photos()
        monkeypatch.setattr(checks, "DISK_RESERVE_BYTES", 10**18)

        assert "GB are free" in _refusal(tmp_path, _spec())

    def test_a_root_that_cannot_be_written(self, photos: Photos, tmp_path: Path) -> None:
        photos()
        (tmp_path / "stores").write_text("a file is in the way")

        with pytest.raises(DataError, match="the folder cannot be written"):
            _prepare(tmp_path, _spec())

    def test_images_stored_smaller_than_they_are_used(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match="smaller than image_size"):
            prepare_dataset(
                _spec(),
                base_dir=tmp_path,
                store_root=Location(str(tmp_path / "stores")),
                image_size=9,
                stored_size=8,
                use_ray=False,
                on_progress=_ignore,
            )

    @pytest.mark.usefixtures("small_shards")
    def test_files_that_change_while_they_are_read(
        self, photos: Photos, tmp_path: Path, image_file: ImageFile
    ) -> None:
        root = photos()

        def change(done: int, total: int) -> None:
            (root / "cat" / "00.png").write_bytes(image_file(99))

        with pytest.raises(DataError, match=r"1 files changed while they were read: cat/00\.png"):
            prepare_dataset(
                _spec(),
                base_dir=tmp_path,
                store_root=Location(str(tmp_path / "stores")),
                image_size=SIZE,
                stored_size=SIZE,
                use_ray=False,
                on_progress=change,
            )
        assert not _stores(tmp_path / "stores")


@pytest.mark.usefixtures("small_shards")
def test_progress_ends_at_the_total(photos: Photos, tmp_path: Path) -> None:
    photos(per_class=6)
    seen: list[tuple[int, int]] = []

    prepare_dataset(
        _spec(),
        base_dir=tmp_path,
        store_root=Location(str(tmp_path / "stores")),
        image_size=SIZE,
        stored_size=SIZE,
        use_ray=False,
        on_progress=lambda done, total: seen.append((done, total)),
    )

    assert seen == [(5, 12), (10, 12), (12, 12)]


def test_two_builds_at_once_make_one_store(photos: Photos, tmp_path: Path) -> None:
    photos()
    built: list[bool] = []
    threads = [
        threading.Thread(target=lambda: built.append(_prepare(tmp_path, _spec()).built))
        for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(built) == [False, False, False, True]
    assert len(_stores(tmp_path / "stores")) == 1


def test_a_build_killed_half_way_leaves_nothing_visible(photos: Photos, tmp_path: Path) -> None:
    photos(per_class=10)
    code = f"""
        import os, signal
        from pathlib import Path
        from rayft.data.prepare import prepare_dataset
        from rayft.spec.data import DataSpec
        from rayft.store import shards
        from rayft.storage.location import Location
        shards.MAX_ROWS_PER_SHARD = 5

        def die(done, total):
            if done >= 10:
                os.kill(os.getpid(), signal.SIGKILL)

        spec = DataSpec.model_validate({{"train": {{"kind": "folder", "path": "photos"}}}})
        base = Path({str(tmp_path)!r})
        prepare_dataset(spec, base_dir=base, store_root=Location(str(base / "stores")),
                        image_size={SIZE}, stored_size={SIZE}, use_ray=False, on_progress=die)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, env={**os.environ}
    )
    assert killed.returncode == -signal.SIGKILL
    left = _stores(tmp_path / "stores")
    assert len(left) == 1
    assert left[0].startswith(".")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "MAX_ROWS_PER_SHARD", 5)
        prepared = _prepare(tmp_path, _spec())
        _prepare(tmp_path, _spec(), root="clean")

    assert prepared.built
    assert len(_stores(tmp_path / "stores")) == 1
    assert _hashes(tmp_path / "stores") == _hashes(tmp_path / "clean")


def test_statistics_are_those_of_all_training_pixels(photos: Photos, tmp_path: Path) -> None:
    photos(per_class=30)
    dataset = open_dataset(_prepare(tmp_path, _spec(test={"fraction": 0.2})).ref)
    split = dataset.splits["train"]
    pixels = split.store.gather(split.row_ids).reshape(-1, 3) / 255

    mean, std = channel_statistics(dataset)

    assert mean == pytest.approx(pixels.mean(0))
    assert std == pytest.approx(pixels.std(0))


def test_real_images_become_rows(shared_data: Path, tmp_path: Path) -> None:
    source = {"kind": "parquet", "path": "cifar10/test-*.parquet"}

    prepared = prepare_dataset(
        _spec(train=source, test={"fraction": 0.1}),
        base_dir=shared_data,
        store_root=Location(str(tmp_path)),
        image_size=32,
        stored_size=32,
        use_ray=False,
        on_progress=_ignore,
    )

    dataset = open_dataset(prepared.ref)
    assert prepared.facts.num_bad_rows == 0
    assert sum(map(sum, prepared.facts.counts.values())) == 10_000
    assert prepared.facts.num_rows("test") == pytest.approx(1000, abs=100)
    # The published statistics of CIFAR-10's training set, here over 9/10 of the test set.
    assert channel_statistics(dataset).mean == pytest.approx((0.491, 0.482, 0.447), abs=0.01)
