"""Law 9: a checkpoint is complete or invisible. Law 10: nothing is unpickled."""

import json
import random
from pathlib import Path

import pytest
import torch

from rayft.engine.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    find_checkpoint,
    find_damage,
    read_checkpoint,
)
from rayft.errors import CheckpointError, Problem, TrainingError


def checkpoint(value: float = 1.0) -> Checkpoint:
    return Checkpoint(
        manifest={"position": {"phase": 0}, "metrics": {"validation/loss": 0.5}},
        tensors={
            "model": {"a": torch.full((64,), value), "b": torch.arange(5)},
            "optimizer": {"a|exp_avg": torch.zeros(64)},
        },
    )


def no_damage(name: str, problem: str) -> None:
    raise AssertionError(f"{name}: {problem}")


def test_what_was_saved_is_read_back_to_the_bit(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path).save("step-1", checkpoint(), best="step-1")

    read = read_checkpoint(tmp_path / "step-1")

    assert read.manifest["metrics"] == {"validation/loss": 0.5}
    for kind, tensors in checkpoint().tensors.items():
        assert read.tensors[kind].keys() == tensors.keys()
        assert all(torch.equal(read.tensors[kind][n], t) for n, t in tensors.items())


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)

    for number in range(1, 6):
        folder.save(f"step-{number}", checkpoint(), best="step-2" if number > 1 else None)

    assert folder.names() == ["step-2", "step-4", "step-5"]
    assert folder.best() == "step-2"
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".t")]


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path).save("step-1", checkpoint(), best=None)
    draw = random.Random(0)
    files = sorted((tmp_path / "step-1").glob("*.safetensors"))

    for _ in range(64):
        file = draw.choice(files)
        good = file.read_bytes()
        bad = bytearray(good)
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        file.write_bytes(bad)
        assert find_damage(tmp_path / "step-1") == f"{file.name} does not match its hash"
        file.write_bytes(good)
    assert find_damage(tmp_path / "step-1") is None


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "manifest.json"])
@pytest.mark.parametrize("fault", ["missing", "empty", "cut"])
def test_a_missing_or_short_file_is_found(tmp_path: Path, file: str, fault: str) -> None:
    CheckpointFolder(tmp_path).save("step-1", checkpoint(), best=None)
    path = tmp_path / "step-1" / file
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if fault == "empty" else -7])

    assert find_damage(tmp_path / "step-1")
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "step-1")


def test_the_newest_sound_checkpoint_is_taken_and_damaged_ones_are_put_aside(
    tmp_path: Path,
) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    for number in (1, 2, 3):
        folder.save(f"step-{number}", checkpoint(number), best=None)
    for number in (2, 3):
        (tmp_path / f"step-{number}" / "model.safetensors").write_bytes(b"")
    told: list[str] = []

    assert folder.newest(on_damaged=lambda name, problem: told.append(name)) == "step-1"

    assert told == ["step-3", "step-2"]
    assert folder.names() == ["step-1"]
    assert len(list(tmp_path.glob(".damaged-step-*"))) == 2


def test_nothing_but_damage_is_refused_and_never_trained_from_scratch(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save("step-1", checkpoint(), best=None)
    (tmp_path / "step-1" / "manifest.json").write_text("{}")

    for _ in range(2):
        # Asked again, it must not take the empty folder for a run that has not begun.
        with pytest.raises(CheckpointError, match="all 1 checkpoints are damaged"):
            folder.newest(on_damaged=lambda name, problem: None)


def test_no_checkpoint_at_all_is_a_start_from_scratch(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "none").newest(on_damaged=no_damage) is None


def test_a_writer_that_was_replaced_leaves_nothing(tmp_path: Path) -> None:
    def fence() -> None:
        raise TrainingError(Problem("run", "replaced", "nothing"))

    with pytest.raises(TrainingError):
        CheckpointFolder(tmp_path, fence=fence).save("step-1", checkpoint(), best=None)

    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_writer_left_is_cleaned_and_was_never_seen(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    (tmp_path / ".tmp-step-9-abc").mkdir()
    (tmp_path / ".tmp-step-9-abc" / "model.safetensors").write_bytes(b"half")

    assert folder.names() == []
    folder.clean()

    assert list(tmp_path.iterdir()) == []


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path).save("step-1", checkpoint(), best=None)
    file = tmp_path / "step-1" / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))

    with pytest.raises(CheckpointError, match="expected checkpoint format 1, found 99"):
        read_checkpoint(tmp_path / "step-1")


def test_a_run_means_its_best_checkpoint(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=5)
    for number in (1, 2, 3):
        folder.save(f"step-{number}", checkpoint(), best="step-2" if number > 1 else None)

    assert find_checkpoint(tmp_path).name == "step-2"
    assert find_checkpoint(tmp_path / "checkpoints" / "step-3").name == "step-3"
    with pytest.raises(CheckpointError, match="found neither"):
        find_checkpoint(tmp_path / "nowhere")
