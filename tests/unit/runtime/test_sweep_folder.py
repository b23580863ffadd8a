"""A sweep goes on only as what it was begun as."""

from pathlib import Path
from typing import Any

import pytest

from rayft.errors import CheckpointError
from rayft.runtime.folder import RunFolder
from rayft.runtime.sweep_folder import Settled, SweepFolder
from rayft.spec.load_sweep import LoadedSweep, sweep_from_data
from rayft.storage.location import Location

SETTLED = Settled(reserved={"CPU": 2.0}, precision={"a network": "fp32"})
RUN: dict[str, Any] = {
    "name": "run",
    "data": {"train": {"kind": "csv", "path": "rows.csv"}, "validation": {"fraction": 0.1}},
    "model": {
        "backbone": {"kind": "torchvision", "name": "resnet18"},
        "heads": {"label": {"kind": "classification"}},
    },
    "phases": [{"name": "probe", "train": ["heads"], "for": "4 epochs", "lr": 1e-2}],
}


def sweep(*overrides: str) -> LoadedSweep:
    return sweep_from_data(
        {
            "name": "sweep",
            "run": RUN,
            "space": {"phases.0.lr": "loguniform(1e-4, 1e-1)"},
            "search": {"kind": "random", "num_trials": 4},
        },
        overrides,
    )


def begin(place: Path, loaded: LoadedSweep) -> SweepFolder:
    folder = SweepFolder(Location(str(place)))
    folder.check_same(loaded.sweep, loaded.run)
    folder.begin(loaded.sweep, loaded.run, SETTLED)
    return folder


def test_what_followed_from_the_machine_is_remembered(tmp_path: Path) -> None:
    assert SweepFolder(Location(str(tmp_path))).settled() is None

    assert begin(tmp_path, sweep()).settled() == SETTLED


@pytest.mark.parametrize(
    "override", ["search.num_trials=9", "max_concurrent=1", "storage_path=elsewhere"]
)
def test_more_trials_and_another_place_are_the_same_sweep(tmp_path: Path, override: str) -> None:
    begin(tmp_path, sweep())

    begin(tmp_path, sweep(override))


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("run.seed=1", "run.seed: 0 -> 1"),
        ("search.seed=1", "sweep.search.seed: 0 -> 1"),
        ("fuse=off", "sweep.fuse: 'auto' -> 'off'"),
    ],
)
def test_another_sweep_of_the_same_name_is_refused_with_what_differs(
    tmp_path: Path, override: str, difference: str
) -> None:
    begin(tmp_path, sweep())

    with pytest.raises(CheckpointError) as caught:
        begin(tmp_path, sweep(override))

    assert difference in caught.value.problems[0].what


def test_a_run_and_a_sweep_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    loaded = sweep()
    begin(tmp_path / "sweep", loaded)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.yaml").write_text("name: run")

    with pytest.raises(CheckpointError, match="a sweep of this name"):
        RunFolder(Location(str(tmp_path)), "sweep").check_same(loaded.run)
    with pytest.raises(CheckpointError, match="a run of this name"):
        begin(tmp_path / "run", loaded)
