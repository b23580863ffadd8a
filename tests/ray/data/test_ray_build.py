"""Building on Ray: the same stores as in process, the same refusals, no noise."""

import hashlib
import io
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rayft.data import build
from rayft.data.build import _make_shards as make_shards
from rayft.data.prepare import PreparedDataset, prepare_dataset
from rayft.errors import DataError
from rayft.spec.data import DataSpec
from rayft.storage.location import Location
from rayft.store import shards

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("ray_cluster"),
    # Ray 2.60 sets deprecated fields of its own DataContext whenever it makes one.
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*"),
]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    # The driver cuts, so tasks need not know.
    monkeypatch.setattr(shards, "MAX_ROWS_PER_SHARD", 7)


def _prepare(
    base_dir: Path, train: dict[str, object], *, use_ray: bool, limit: float = 0.0
) -> PreparedDataset:
    seen: list[int] = []
    prepared = prepare_dataset(
        DataSpec.model_validate({"train": train, "bad_rows": {"limit": limit}}),
        base_dir=base_dir,
        store_root=Location(str(base_dir / ("on_ray" if use_ray else "in_process"))),
        image_size=8,
        stored_size=8,
        use_ray=use_ray,
        on_progress=lambda done, total: seen.append(done),
    )
    assert seen == sorted(seen)
    assert seen[-1] == sum(prepared.facts.counts["train"]) + prepared.facts.num_bad_rows
    return prepared


def _stores(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "rows").rglob("*"))
        if path.is_file()
    }


def _photos(root: Path) -> None:
    for seed in range(40):
        pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        folder = root / ("bird" if seed % 2 else "cat")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{seed:02d}.png").write_bytes(file.getvalue() if seed != 11 else b"<html>")


def test_files_give_the_same_bytes_on_ray_and_in_process(tmp_path: Path) -> None:
    _photos(tmp_path / "photos")
    train: dict[str, object] = {"kind": "folder", "path": "photos"}

    prepared = [_prepare(tmp_path, train, use_ray=on, limit=0.1) for on in (True, False)]

    stores = _stores(tmp_path / "on_ray")
    assert len(stores) == 8
    assert stores == _stores(tmp_path / "in_process")
    assert prepared[0].facts == prepared[1].facts
    assert prepared[0].facts.num_bad_rows == 1


def test_rows_of_a_function_give_the_same_bytes(tmp_path: Path) -> None:
    train: dict[str, object] = {"kind": "python", "function": "rayft.data.digits:rows"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "MAX_ROWS_PER_SHARD", 300)
        for on in (True, False):
            _prepare(tmp_path, train, use_ray=on)

    assert _stores(tmp_path / "on_ray") == _stores(tmp_path / "in_process")


def test_too_many_bad_rows_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    _photos(tmp_path / "photos")

    with pytest.raises(DataError, match=r"bird/11\.png: it is no image"):
        _prepare(tmp_path, {"kind": "folder", "path": "photos"}, use_ray=True)

    assert not list((tmp_path / "on_ray" / "rows").iterdir())


def test_a_refusal_in_a_task_arrives_as_it_was_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _photos(tmp_path / "photos")
    # Tasks write below this folder; a file in its place makes every write fail.
    monkeypatch.setattr(
        "rayft.data.assemble.cut_into_shards",
        lambda listing, *, folder, **rest: shards_into_nowhere(listing, folder, **rest),
    )

    with pytest.raises(DataError, match="a shard cannot be written: ") as caught:
        _prepare(tmp_path, {"kind": "folder", "path": "photos"}, use_ray=True)

    assert len(caught.value.problems) == 1


def shards_into_nowhere(listing: Any, folder: Location, **rest: Any) -> object:
    from rayft.data.shard import cut_into_shards

    (folder / "nowhere").write_bytes(b"")
    return cut_into_shards(listing, folder=folder / "nowhere" / "shards", **rest)


def test_building_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _photos(tmp_path / "photos")

    _prepare(tmp_path, {"kind": "folder", "path": "photos"}, use_ray=True, limit=0.1)

    assert capfd.readouterr() == ("", "")


def test_a_worker_killed_over_its_shard_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _photos(tmp_path / "photos")
    train: dict[str, object] = {"kind": "folder", "path": "photos"}
    _prepare(tmp_path, train, use_ray=False, limit=0.1)
    monkeypatch.setattr(build, "_make_shards", die_once)

    _prepare(tmp_path, train, use_ray=True, limit=0.1)

    assert (tmp_path / "on_ray" / "died").exists()
    assert _stores(tmp_path / "on_ray") == _stores(tmp_path / "in_process")


def die_once(batch: dict[str, Any]) -> dict[str, list[bytes]]:
    """Leave half a shard behind and die, the first time that shard 2 is asked for."""
    work = batch["work"][0]
    marker = work.folder.path.parents[1] / "died"
    if work.index == 2 and not marker.exists():
        (work.folder.path / ".shard-00002.arrow.half").write_bytes(b"half")
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return make_shards(batch)
